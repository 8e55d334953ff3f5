"""Charts as SVG text, drawn in the colours of the page they stand on (light or dark).

Colours are CSS variables of the page: ``--ink``, ``--soft``, ``--line``, ``--faint``, ``--accent``,
``--other``, ``--c0`` to ``--c5`` of lines, and one per kind of operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from nasplatform.search.baseline import RandomCurve

Array = NDArray[np.float64]
WIDTH, HEIGHT = 640, 340
COLOURS = 6
"""Colours that lines are told apart by; then they begin anew."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 16, 14, 46


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, and x and y, both (n,)."""

    name: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Axes:
    """Maps data to the pixels of a chart.

    x, y: smallest and largest value shown on each axis.
    """

    x: tuple[float, float]
    y: tuple[float, float]

    def left(self, values: Array | float) -> Array:
        """Return pixels from the left."""
        share = (np.asarray(values, np.float64) - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def top(self, values: Array | float) -> Array:
        """Return pixels from the top."""
        share = (np.asarray(values, np.float64) - self.y[0]) / (self.y[1] - self.y[0])
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def line(self, x: Array, y: Array) -> str:
        """Return the points of a polyline."""
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(self.left(x), self.top(y), strict=True))


def curve_chart(best: Array, random: RandomCurve | None, metric: str = "score") -> str:
    """Draw the best score so far (T,) against evaluations, random search beside it.

    metric: which the score is.
    """
    steps = np.arange(1, len(best) + 1, dtype=np.float64)
    others = () if random is None else (random.low, random.mean, random.high)
    shown = [best, *(values[: len(best)] for values in others)]
    low = min(float(np.nanmin(values)) for values in shown)
    high = max(float(np.nanmax(values)) for values in shown)
    axes = Axes((0.0, float(max(len(best), 2))), _padded(low, high))
    parts = [_frame(axes, "evaluations", f"best {escape(metric)} so far", counts=True)]
    if random is not None:
        t = steps[: len(random.mean)]
        band = axes.line(
            np.concatenate([t, t[::-1]]),
            np.concatenate([random.low[: len(t)], random.high[: len(t)][::-1]]),
        )
        parts.append(f'<polygon points="{band}" fill="var(--other)" opacity=".18"/>')
        parts.append(_line(axes, t, random.mean[: len(t)], "var(--other)", "6 4"))
    finite = np.isfinite(best)
    stairs_x = np.repeat(steps[finite], 2)[1:]
    stairs_y = np.repeat(best[finite], 2)[:-1]
    parts.append(_line(axes, stairs_x, stairs_y, "var(--accent)"))
    return _svg(parts, "Best score so far against evaluations")


def learning_chart(lines: Sequence[Line], label: str, emphasis: int | None = None) -> str:
    """Draw something of several trainings against epochs.

    Each line has the colour of its place, the same in every chart; where one is emphasised, that
    one stands out and the others are grey.
    """
    finite = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    ends = _ends(finite) if len(finite) else (0.0, 1.0)
    last = max(float(line.x.max()) for line in lines)
    axes = Axes((1.0, max(last, 2.0)), _padded(*ends))
    parts = [_frame(axes, "epoch", escape(label), counts=True)]
    for place, line in enumerate(lines):
        shown = np.isfinite(line.y)
        colour = f"var(--c{place % COLOURS})"
        if emphasis is not None:
            colour = "var(--accent)" if place == emphasis else "var(--faint)"
        drawn = _line(axes, line.x[shown], line.y[shown], colour)
        parts.append(f"<g><title>{escape(line.name)}</title>{drawn}</g>")
        if shown.sum() == 1:
            x, y = axes.left(line.x[shown])[0], axes.top(line.y[shown])[0]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return _svg(parts, f"{escape(label)} against epochs")


def scatter_span(predicted: Array, measured: Array) -> tuple[float, float]:
    """Return the ends of both axes of a scatter: all but the lowest hundredth where it is far off.

    A few architectures that learn nothing would press all others into a corner.
    """
    both = np.concatenate([predicted, measured])
    low, high = _ends(both)
    near = float(np.quantile(both, 0.01))
    return _padded(near if high - near < 0.5 * (high - low) else low, high)


def scatter_chart(predicted: Array, measured: Array, names: Sequence[str]) -> str:
    """Draw measured against predicted scores, both (n,), with the diagonal.

    What lies below ``scatter_span`` is drawn on the edge.
    """
    span = scatter_span(predicted, measured)
    axes = Axes(span, span)
    ends = np.array(span)
    parts = [_frame(axes, "predicted", "measured"), _line(axes, ends, ends, "var(--line)", "3 4")]
    x, y = axes.left(predicted.clip(*span)), axes.top(measured.clip(*span))
    radius = 3.5 if len(x) <= 200 else 2
    for a, b, name, p, m in zip(x, y, names, predicted, measured, strict=True):
        title = f"{escape(name)}: predicted {p:.4f}, measured {m:.4f}"
        parts.append(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="var(--accent)" opacity=".55">'
            f"<title>{title}</title></circle>"
        )
    return _svg(parts, "Measured against predicted scores")


def front_chart(objective: Array, scores: Array, front: NDArray[np.bool_], name: str) -> str:
    """Draw scores against another objective, both (n,), and join the points of the front (n,)."""
    axes = Axes(_padded(*_ends(objective)), _padded(*_ends(scores)))
    parts = [_frame(axes, escape(name.replace("_", " ")), "score")]
    order = np.flatnonzero(front)[np.argsort(objective[front], kind="stable")]
    parts.append(_line(axes, objective[order], scores[order], "var(--accent)"))
    places = zip(axes.left(objective), axes.top(scores), front, objective, scores, strict=True)
    for a, b, best, x, y in places:
        colour, radius = ("accent", 4) if best else ("soft", 2.5)
        parts.append(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="var(--{colour})">'
            f"<title>score {y:.4f}, {escape(name)} {x:,.6g}</title></circle>"
        )
    return _svg(parts, f"Scores against {escape(name)}")


def _frame(axes: Axes, x_label: str, y_label: str, counts: bool = False) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in ticks(*axes.y):
        top = float(axes.top(value))
        parts.append(f'<path d="M{_LEFT} {top:.1f}H{right}" stroke="var(--line)" opacity=".6"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        )
    for value in ticks(*axes.x, least=float(counts)):
        left = float(axes.left(value))
        parts.append(
            f'<text x="{left:.1f}" y="{bottom + 18}" text-anchor="middle">{_number(value)}</text>'
        )
    middle = (bottom + _TOP) / 2
    parts.append(f'<path d="M{_LEFT} {bottom}H{right}" stroke="var(--soft)"/>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>'
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{y_label}'
        f"</text>"
    )
    return "".join(parts)


def ticks(low: float, high: float, most: int = 6, least: float = 0.0) -> list[float]:
    """Return at most ``most`` round values between two ends: steps of 1, 2 or 5 times a ten.

    least: the smallest step; 1 where values are counts.

    >>> ticks(0.0, 7.0, least=1.0)
    [0.0, 2.0, 4.0, 6.0]
    """
    raw = max((high - low) / most, least)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    return low - room, high + room


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _number(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.6g}{letter}"
    return f"{value:.6g}"


def _line(axes: Axes, x: Array, y: Array, colour: str, dashes: str = "") -> str:
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{axes.line(x, y)}" fill="none" stroke="{colour}" '
        f'stroke-width="2.2" stroke-linejoin="round"{dash}/>'
    )


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" class="chart">'
        f"{''.join(parts)}</svg>"
    )
