"""How a signal travels through a network with random weights, in closed form.

In a wide network with random weights, two images whose pre-activations correlate with r leave a
normalised convolution with ReLU with the correlation g(r) of the arc-cosine kernel (Cho and Saul,
2009; Poole et al., 2016). Here the correlation is kept as the difference d = 1 - r, which single
precision resolves where r is near one, and each node as its variance q and its difference energy
e = q d. Where tensors are added q and e add; a convolution makes them 1 and h(e / q). What other
operations make of them is read off their traits (``responses``).

A small disturbance with spatial frequency w on top of the mean travels linearly: a convolution
multiplies it by the slope of h, and a window of three pixels by (1 + 2 cos w) / 3. Halving the
maps between cells takes the means of pairs, cos(w / 2), and doubles the frequency; so does a stride
inside a cell, without the means. These are the modes.

The backward pass is its mirror image: the variance of the gradient at each node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.active_subgraph import ActiveSubgraphs
from nasplatform.encodings.propagation_rules import CellShapes, Rules, Step, Windows
from nasplatform.encodings.responses import CHI, Phase, window_gain
from nasplatform.spaces.graph import GraphBatch

Floats = NDArray[np.floating[Any]]
STARTS = (1.0, 0.5, 0.1)  # difference of two images: unrelated, related, alike
FREQUENCIES = (0.0, 0.2, 0.6, 1.2)  # radians per pixel
_TINY = np.float32(1e-12)
_MOST = np.float32(1e30)  # variances, modes and gradients beyond it are all alike


def depth_features(active: ActiveSubgraphs, graphs: GraphBatch) -> tuple[Floats, Floats]:
    """Send differences and modes through the whole skeleton; two arrays (F, B).

    Returns log differences and variances after the first cell and the last of each stage, and
    log modes there, relative to the difference.
    """
    rules, stages = Rules.of(active), graphs.stages
    signal = _Signal.start(len(graphs))
    omega: Floats = np.array(FREQUENCIES, np.float32)
    differences, relatives = [], []
    for cell, stage in enumerate(stages):
        if cell and stage != stages[cell - 1]:
            signal = signal.halved(np.cos(omega / 2))
            omega = 2 * omega
        signal = _cell(rules, CellShapes.of(cell, graphs, active, rules), signal, omega)
        last = cell + 1 == len(stages) or stages[cell + 1] != stage
        if cell == 0 or last:
            q, e, modes = signal.parts()
            d = e / np.maximum(q, _TINY)
            relative = np.abs(modes) / np.maximum(e, _TINY)[:, None]
            differences += [_log(d, 1e-6), _log(q, 1e-3)[None]]
            relatives.append(np.concatenate(_log(np.minimum(relative, _MOST), 1e-6)))
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

    def behind(self, phase: Phase) -> _Signal:
        """Let a phase happen, and mix the channels."""
        made = _Signal(np.empty_like(self.rows))
        (q, e, modes), (q_new, e_new, modes_new) = self.parts(), made.parts()
        some = np.maximum(q, _TINY)
        e_new[:], slope = phase(e / some)
        np.multiply(slope[:, None], modes, out=modes_new)
        if phase.normalised:
            q_new[:] = 1
            modes_new /= some
        else:
            q_new[:] = q
            e_new *= q
        return made

    def damp(self, windows: Windows, omega: Floats) -> None:
        """Pass windows, in place; omega: (W, 1) or (W, B) radians per pixel."""
        modes = self.parts()[2]
        for sides, passed in windows:
            gain = window_gain(sides[0], omega)
            for side in sides[1:]:
                gain = gain * window_gain(side, omega)
            modes *= 1 + passed * (gain - 1)

    def bounded(self) -> _Signal:
        """Scale down what would overflow; the difference is kept, and modes up to a bound."""
        if self.rows.max(initial=0) <= _MOST and self.rows.min(initial=0) >= -_MOST:
            return self
        made = _Signal(self.rows * np.minimum(1, _MOST / np.maximum(self.rows[0], _TINY)))
        modes = made.parts()[2]
        np.clip(modes, -_MOST, _MOST, out=modes)
        return made


_CONVOLUTION = Phase(rectified=1, normalised=True, centred=True)


def _cell(rules: Rules, shapes: CellShapes, signal: _Signal, omega: Floats) -> _Signal:
    """Send a signal through one cell; omega: (W,) radians per pixel where it enters."""
    nodes = [signal.behind(_CONVOLUTION) if rules.projects else signal]
    waves = omega[:, None]
    for place, rule in enumerate(rules.nodes, 1):
        rows = np.zeros_like(signal.rows)
        for i, factor in rule.sources:
            rows += nodes[i].rows if factor is None else factor * nodes[i].rows
        if shapes.shrunk is not None:
            waves = omega[:, None] * shapes.shrunk[place]
        node = _Signal(rows)
        keeps = shapes.keeps[place]
        entered = None if keeps is None else rows.copy()
        node.damp(rule.windows, waves)
        for mask, steps in rule.programs:
            done = _run(steps, _Signal(rows), waves)
            node = done if mask is None else _Signal(np.where(mask, done.rows, node.rows))
        if keeps is not None and entered is not None:
            node = _Signal(node.rows + keeps * entered)
        nodes.append(node.bounded())
    return nodes[-1]


def _run(steps: list[Step], signal: _Signal, waves: Floats) -> _Signal:
    entered = []
    for place, step in enumerate(steps):
        entered.append(signal)
        if step.windows:
            signal = _Signal(signal.rows.copy())
            signal.damp(step.windows, waves)
        signal = signal.behind(step.phase) if step.phase.acts else signal
        if step.phase.adds:
            signal = _Signal(signal.rows + entered[place + 1 - step.phase.adds].rows)
    return signal


def gradient_features(active: ActiveSubgraphs, graphs: GraphBatch) -> Floats:
    """Return (F, B): variances that arrive at the nodes and gradients that come back to them."""
    rules = Rules.of(active)
    keeps = CellShapes.of(0, graphs, active, rules).keeps
    arriving, leaving, gain = _variances(active, rules, keeps)
    gain = gain * active.active
    n, _, b = active.edges.shape
    back = {n - 1: 1 / np.maximum(leaving[n - 1], _TINY)}
    back |= {i: np.zeros(b, np.float32) for i in range(n - 1)}
    for j in range(n - 1, 0, -1):
        for i in active.sources[j]:
            through = back[j] * (rules.weight[i] if i else 1) if j == n - 1 else back[j] * gain[j]
            back[i] += active.edges[i, j] * through * (CHI if rules.projects and not i else 1)
            np.minimum(back[i], _MOST, out=back[i])
    gradient = np.stack([back[i] for i in range(n)]) * active.active
    mixes = rules.rectifies
    logs = _log(gradient, 1e-12)
    inner = np.where(mixes, logs, np.float32(np.nan))
    width = np.maximum(active.shares * rules.inside, np.float32(1e-3))
    thin = np.where(mixes, 1 / width, 0)
    amount = _log(arriving, 1e-6)
    sets = active.op_counts * mixes
    rows = [
        _log(gradient[0], 1e-6),
        _finite(np.fmin.reduce(inner, axis=0)),
        _finite(np.fmax.reduce(inner, axis=0)),
        _log(leaving[n - 1], 1e-6),
        leaving.max(0),
        np.where(active.active[1:], amount[1:], 0).sum(0),
        thin.sum(0),
        thin.max(0),
        (thin * gradient).sum(0),
        np.log1p((gradient * mixes).sum(0)),
    ]
    by_set = [(sets * gradient).sum(1), (sets * logs).sum(1), (sets * thin).sum(1)]
    return np.concatenate([np.stack(rows), *by_set]).astype(np.float32)


def _variances(
    active: ActiveSubgraphs, rules: Rules, keeps: list[Floats | None]
) -> tuple[Floats, Floats, Floats]:
    """Return (N, B) each: variances that arrive at and leave each node, and the gain of each."""
    n, _, b = active.edges.shape
    arriving, leaving, gain = np.ones((3, n, b), np.float32)
    for j, rule in enumerate(rules.nodes, 1):
        arriving[j] = 0
        for i in active.sources[j]:
            weight = rules.weight[i] if i and j == n - 1 else np.float32(1)
            arriving[j] += active.edges[i, j] * weight * leaving[i]
        left, gain[j] = rule.passed(arriving[j], keeps[j])
        leaving[j] = np.minimum(left, _MOST)
    return arriving, leaving, gain


def _log(values: Floats, floor: float) -> Floats:
    logs: Floats = np.log(np.maximum(values, np.float32(floor)))
    return logs


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0).astype(np.float32)
