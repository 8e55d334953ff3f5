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

from nasplatform.encodings.active_subgraph import ActiveSubgraphs

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
    d = np.minimum(np.maximum(d, np.float32(1e-7)), np.float32(2))
    sine = np.sqrt(d * (2 - d))
    angle = np.arccos(1 - d)
    gap = angle - sine
    # For small angles arccos of a number near one is coarse, and angle - sine is its cube / 6.
    small = d < np.float32(1e-2)
    if small.any():
        few = d[small]
        fine = np.sqrt(2 * few) * (1 + few / 12 + few * few * np.float32(3 / 160))
        angle[small] = fine
        gap[small] = fine**3 / 6 * (1 - fine * fine / 20)
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
    def of(cls, graphs: ActiveSubgraphs) -> _Rules:
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


def signal_features(graphs: ActiveSubgraphs, stages: tuple[int, ...]) -> dict[str, Floats]:
    """Return the three groups of features by name, each (F, B)."""
    differences, modes = depth_features(graphs, stages)
    return {"differences": differences, "modes": modes, "gradients": gradient_features(graphs)}


@dataclass(frozen=True)
class _Step:
    """What happens at a node; None stands for a factor that is one, or none, everywhere.

    sources: nodes that feed it, each with the factors (B,) of what it hands over.
    spatial: (B,) 1 where it looks through a window.
    mixes:   (B,) whether it normalises and applies a non-linearity; or for all alike.
    """

    sources: list[tuple[int, Floats | None]]
    spatial: Floats | None
    mixes: NDArray[np.bool_] | bool

    @classmethod
    def at(cls, node: int, graphs: ActiveSubgraphs, rules: _Rules) -> _Step:
        output = node == len(graphs.edges) - 1
        sources: list[tuple[int, Floats | None]] = []
        for i in graphs.sources[node]:
            factor = graphs.edges[i, node]
            if output and i:
                factor = factor * rules.weight[i]
            sources.append((i, None if (factor == 1).all() else factor))
        spatial, mixes = rules.spatial[node], rules.mixes[node] > 0
        if output or not mixes.any():
            mixed: NDArray[np.bool_] | bool = False
        else:
            mixed = True if mixes.all() else mixes
        return cls(sources, None if output or not spatial.any() else spatial, mixed)


def depth_features(graphs: ActiveSubgraphs, stages: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Send differences and modes through the whole skeleton; two arrays (F, B).

    stages: resolution stage of each cell of the skeleton.
    Returns log differences and variances after the first cell and the last of each stage, and
    log modes there, relative to the difference.
    """
    rules = _Rules.of(graphs)
    steps = [_Step.at(node, graphs, rules) for node in range(1, len(graphs.edges))]
    signal = _Signal.start(graphs.edges.shape[2])
    omega: Floats = np.array(FREQUENCIES, np.float32)
    differences, relatives = [], []
    for cell, stage in enumerate(stages):
        if cell and stage != stages[cell - 1]:
            signal = signal.halved(np.cos(omega / 2))
            omega = 2 * omega
        window = ((1 + 2 * np.cos(omega)) / 3).astype(np.float32)
        signal = _cell(steps, rules.projects, signal, window)
        last = cell + 1 == len(stages) or stages[cell + 1] != stage
        if cell == 0 or last:
            q, e, modes = signal.parts()
            d = e / np.maximum(q, _TINY)
            relative = np.abs(modes) / np.maximum(e, _TINY)[:, None]
            differences += [_log(d, 1e-6), _log(q, 1e-3)[None]]
            relatives.append(np.concatenate(_log(relative, 1e-6)))
    return np.concatenate(differences), np.concatenate(relatives)


@dataclass(frozen=True)
class _Signal:
    """Variance, S energies and S x W modes as rows of one array: they are added together.

    rows: (1 + S + S W, B) float32.
    """

    rows: Floats

    @classmethod
    def start(cls, count: int) -> _Signal:
        rows = np.ones((1 + len(STARTS) + len(STARTS) * len(FREQUENCIES), count), np.float32)
        rows[1 : 1 + len(STARTS)] = np.array(STARTS, np.float32)[:, None]
        return cls(rows)

    def parts(self) -> tuple[Floats, Floats, Floats]:
        """Return views: variance (B,), energies (S, B), modes (S, W, B)."""
        s, w = len(STARTS), len(FREQUENCIES)
        return (
            self.rows[0],
            self.rows[1 : 1 + s],
            self.rows[1 + s :].reshape(s, w, self.rows.shape[1]),
        )

    def halved(self, means: Floats) -> _Signal:
        """Normalise, and take the means of pairs of pixels, which damps the modes by (W,)."""
        made = _Signal(np.empty_like(self.rows))
        (q, e, modes), (q_new, e_new, modes_new) = self.parts(), made.parts()
        some = np.maximum(q, _TINY)
        q_new[:] = 1
        np.divide(e, some, out=e_new)
        np.divide(modes, some, out=modes_new)
        modes_new *= means[:, None]
        return made

    def convolved(self) -> _Signal:
        """Normalise, apply ReLU and a random convolution."""
        made = _Signal(np.empty_like(self.rows))
        (q, e, modes), (q_new, e_new, modes_new) = self.parts(), made.parts()
        some = np.maximum(q, _TINY)
        q_new[:] = 1
        e_new[:], slope = relu_difference(e / some)
        np.multiply(slope[:, None], modes, out=modes_new)
        modes_new /= some
        return made


def _cell(steps: list[_Step], projects: bool, signal: _Signal, window: Floats) -> _Signal:
    """Send a signal through one cell; window: (W,) what is left of a mode behind a window."""
    nodes = [signal.convolved() if projects else signal]
    for step in steps:
        rows = np.zeros_like(signal.rows)
        for i, factor in step.sources:
            rows += nodes[i].rows if factor is None else factor * nodes[i].rows
        node = _Signal(rows)
        if step.spatial is not None:
            modes = node.parts()[2]
            modes *= 1 + step.spatial * (window[:, None] - 1)
        if step.mixes is not False:
            mixed = node.convolved()
            node = mixed if step.mixes is True else _Signal(np.where(step.mixes, mixed.rows, rows))
        nodes.append(node)
    return nodes[-1]


def gradient_features(graphs: ActiveSubgraphs) -> Floats:
    """Return (F, B): variances that arrive at the nodes and gradients that come back to them."""
    rules = _Rules.of(graphs)
    n, _, b = graphs.edges.shape
    arriving, leaving = _variances(graphs, rules)
    gain = np.where(rules.mixes > 0, CHI / np.maximum(arriving, _TINY), 1) * graphs.active
    back = {n - 1: 1 / np.maximum(leaving[n - 1], _TINY)}
    back |= {i: np.zeros(b, np.float32) for i in range(n - 1)}
    for j in range(n - 1, 0, -1):
        for i in graphs.sources[j]:
            through = back[j] * (rules.weight[i] if i else 1) if j == n - 1 else back[j] * gain[j]
            back[i] += graphs.edges[i, j] * through * (CHI if rules.projects and not i else 1)
    gradient = np.stack([back[i] for i in range(n)]) * graphs.active
    mixes = rules.mixes > 0
    logs = _log(gradient, 1e-12)
    inner = np.where(mixes, logs, np.float32(np.nan))
    thin = np.where(mixes, 1 / np.maximum(graphs.shares, np.float32(1e-3)), 0)
    amount = _log(arriving, 1e-6)
    sets = graphs.op_counts * mixes
    rows = [
        _log(gradient[0], 1e-6),
        _finite(np.fmin.reduce(inner, axis=0)),
        _finite(np.fmax.reduce(inner, axis=0)),
        _log(leaving[n - 1], 1e-6),
        leaving.max(0),
        np.where(graphs.active[1:], amount[1:], 0).sum(0),
        thin.sum(0),
        thin.max(0),
        (thin * gradient).sum(0),
        np.log1p((gradient * mixes).sum(0)),
    ]
    by_set = [(sets * gradient).sum(1), (sets * logs).sum(1), (sets * thin).sum(1)]
    return np.concatenate([np.stack(rows), *by_set]).astype(np.float32)


def _variances(graphs: ActiveSubgraphs, rules: _Rules) -> tuple[Floats, Floats]:
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
