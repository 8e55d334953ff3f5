"""How a signal travels through a network with random weights, in closed form.

In a wide network with random weights, two images whose pre-activations correlate with r leave a
normalised convolution with ReLU with the correlation g(r) of the arc-cosine kernel (Cho and Saul,
2009; Poole et al., 2016). Here the correlation is kept as the difference d = 1 - r, which single
precision resolves where r is near one, and each node as its variance q and its difference energy
e = q d. Where tensors are added q and e add; a convolution makes them 1 and h(e / q).

A small disturbance with spatial frequency w on top of the mean travels linearly: a convolution
multiplies it by the slope of h, and a window of three pixels by (1 + 2 cos w) / 3. Halving the
maps takes the means of pairs, cos(w / 2), and doubles the frequency. These are the modes.

The backward pass is its mirror image: the variance of the gradient at each node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.live import LiveGraphs
from nasplatform.encodings.path_statistics import tallies

Floats = NDArray[np.floating[Any]]
STARTS = (1.0, 0.5, 0.1)  # difference of two images: unrelated, related, alike
FREQUENCIES = (0.0, 0.2, 0.6, 1.2)  # radians per pixel
CHI = np.float32(np.pi / (np.pi - 1))  # slope of h at d = 0: gain of a gradient in a convolution
_TINY = np.float32(1e-12)


def relu_difference(d: Floats) -> tuple[Floats, Floats]:
    """Return h(d) and its slope: the difference that ReLU makes of a normalised difference.

    d: any shape, 1 - correlation, in [0, 2]. The outputs of ReLU are centred, as batch
    normalisation does: h(0) = 0, h(1) = 1.
    """
    d = np.clip(d, np.float32(1e-7), 2)
    sine = np.sqrt(d * (2 - d))
    angle = np.arccos(1 - d)
    # For small angles arccos of a number near one is coarse, and angle - sine is its cube / 6.
    small = d < np.float32(1e-2)
    angle = np.where(small, np.sqrt(2 * d) * (1 + d / 12 + d * d * np.float32(3 / 160)), angle)
    gap = np.where(small, angle**3 / 6 * (1 - angle * angle / 20), angle - sine)
    slope = (np.float32(np.pi) - angle) / np.float32(np.pi - 1)
    return slope * d + gap / np.float32(np.pi - 1), slope


@dataclass(frozen=True)
class _Rules:
    """What each node does, (N, B) float32: the signal meets sums and these factors.

    mixes:    1 where the node normalises and applies a non-linearity.
    spatial:  1 where it looks through a window.
    weight:   factor on what the node hands to the output.
    projects: whether what leaves the input passes a convolution of its own.
    """

    mixes: Floats
    spatial: Floats
    weight: Floats
    projects: bool

    @classmethod
    def of(cls, graphs: LiveGraphs) -> _Rules:
        vocabulary = graphs.vocabulary
        concat = any(op.kind == "output" and op.merge == "concat" for op in vocabulary)
        learnt = [op.kind not in ("pool", "skip") for op in vocabulary]
        wide = [op.kernel > 1 for op in vocabulary]
        return cls(
            mixes=graphs.has[[k for k, op in enumerate(graphs.classes) if learnt[op]]].sum(0),
            spatial=graphs.has[[k for k, op in enumerate(graphs.classes) if wide[op]]].sum(0),
            weight=graphs.shares if concat else np.ones_like(graphs.shares),
            projects=any(op.kind == "input" and op.projects for op in vocabulary),
        )


def signal_features(graphs: LiveGraphs, stages: tuple[int, ...]) -> dict[str, Floats]:
    """Return three groups of features, each (F, B).

    differences: log differences and variances after the first cell and the last of each stage.
    modes:       log modes there, relative to the difference.
    gradients:   variances that arrive at the nodes of a cell, and gradients that come back.
    stages:      resolution stage of each cell of the skeleton.
    """
    rules = _Rules.of(graphs)
    differences, modes = _depth_features(graphs, rules, stages)
    gradients = _gradient_features(graphs, rules)
    return {"differences": differences, "modes": modes, "gradients": gradients}


def _depth_features(
    graphs: LiveGraphs, rules: _Rules, stages: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Send differences and modes through the whole skeleton; two arrays (F, B)."""
    b = graphs.edges.shape[2]
    s, w = len(STARTS), len(FREQUENCIES)
    e: Floats = np.repeat(np.array(STARTS, np.float32)[:, None], b, axis=1)
    modes: Floats = np.ones((s, w, b), np.float32)
    q: Floats = np.ones(b, np.float32)
    omega: Floats = np.array(FREQUENCIES, np.float32)
    differences, relatives = [], []
    for cell, stage in enumerate(stages):
        if cell and stage != stages[cell - 1]:
            some = np.maximum(q, _TINY)
            modes = modes / some * np.cos(omega / 2)[:, None]
            e, q, omega = e / some, np.ones_like(q), 2 * omega
        window = (1 + 2 * np.cos(omega)) / 3
        q, e, modes = _cell(graphs, rules, q, e, modes, window.astype(np.float32))
        last = cell + 1 == len(stages) or stages[cell + 1] != stage
        if cell == 0 or last:
            d = e / np.maximum(q, _TINY)
            relative = np.abs(modes) / np.maximum(e, _TINY)[:, None]
            differences += [_log(d, 1e-6), _log(q, 1e-3)[None]]
            relatives.append(_log(relative, 1e-6).reshape(s * w, b))
    return np.concatenate(differences), np.concatenate(relatives)


def _cell(
    graphs: LiveGraphs, rules: _Rules, q0: Floats, e0: Floats, modes0: Floats, window: Floats
) -> tuple[Floats, Floats, Floats]:
    """Send variance (B,), energies (S, B) and modes (S, W, B) through one cell."""
    n = len(graphs.edges)
    nodes = {0: (q0, e0, modes0)}
    if rules.projects:
        nodes[0] = _convolved(q0, e0, modes0)
    for j in range(1, n):
        q, e, modes = np.zeros_like(q0), np.zeros_like(e0), np.zeros_like(modes0)
        for i in graphs.sources[j]:
            edge = graphs.edges[i, j]
            if j == n - 1:
                edge = edge * (rules.weight[i] if i else 1)
            before = nodes[i]
            q += edge * before[0]
            e += edge * before[1]
            modes += edge * before[2]
        if j < n - 1:
            modes *= 1 + rules.spatial[j] * (window[:, None] - 1)
            cq, ce, cm = _convolved(q, e, modes)
            mix = rules.mixes[j] > 0
            q, e, modes = np.where(mix, cq, q), np.where(mix, ce, e), np.where(mix, cm, modes)
        nodes[j] = (q, e, modes)
    return nodes[n - 1]


def _convolved(q: Floats, e: Floats, modes: Floats) -> tuple[Floats, Floats, Floats]:
    """Normalise, apply ReLU and a random convolution."""
    some = np.maximum(q, _TINY)
    difference, slope = relu_difference(e / some)
    return np.ones_like(q), difference, slope[:, None] * modes / some


def _gradient_features(graphs: LiveGraphs, rules: _Rules) -> Floats:
    """Return (F, B): variances that arrive at the nodes and gradients that come back to them."""
    n, _, b = graphs.edges.shape
    arriving, leaving = _variances(graphs, rules)
    gain = np.where(rules.mixes > 0, CHI / np.maximum(arriving, _TINY), 1) * graphs.live
    back = {n - 1: 1 / np.maximum(leaving[n - 1], _TINY)}
    back |= {i: np.zeros(b, np.float32) for i in range(n - 1)}
    for j in range(n - 1, 0, -1):
        for i in graphs.sources[j]:
            through = back[j] * (rules.weight[i] if i else 1) if j == n - 1 else back[j] * gain[j]
            back[i] += graphs.edges[i, j] * through * (CHI if rules.projects and not i else 1)
    gradient = np.stack([back[i] for i in range(n)]) * graphs.live
    mixes = rules.mixes > 0
    logs = _log(gradient, 1e-12)
    inner = np.where(mixes, logs, np.float32(np.nan))
    thin = np.where(mixes, 1 / np.maximum(graphs.shares, np.float32(1e-3)), 0)
    amount = _log(arriving, 1e-6)
    sets = tallies(graphs) * mixes
    rows = [
        _log(gradient[0], 1e-6),
        _finite(np.fmin.reduce(inner, axis=0)),
        _finite(np.fmax.reduce(inner, axis=0)),
        _log(leaving[n - 1], 1e-6),
        leaving.max(0),
        np.where(graphs.live[1:], amount[1:], 0).sum(0),
        thin.sum(0),
        thin.max(0),
        (thin * gradient).sum(0),
        np.log1p((gradient * mixes).sum(0)),
    ]
    by_set = [(sets * gradient).sum(1), (sets * logs).sum(1), (sets * thin).sum(1)]
    return np.concatenate([np.stack(rows), *by_set]).astype(np.float32)


def _variances(graphs: LiveGraphs, rules: _Rules) -> tuple[Floats, Floats]:
    """Return variances (N, B) that arrive at and leave each node of one cell."""
    n, _, b = graphs.edges.shape
    arriving, leaving = np.ones((2, n, b), np.float32)
    for j in range(1, n):
        arriving[j] = 0
        for i in graphs.sources[j]:
            weight = rules.weight[i] if i and j == n - 1 else np.float32(1)
            arriving[j] += graphs.edges[i, j] * weight * leaving[i]
        leaving[j] = np.where(rules.mixes[j] > 0, 1, arriving[j])
    return arriving, leaving


def _log(values: Floats, floor: float) -> Floats:
    logs: Floats = np.log(np.maximum(values, np.float32(floor)))
    return logs


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0).astype(np.float32)
