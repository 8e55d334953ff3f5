"""Architectures as SVG text: cells, chains and transformers, whatever their graph is.

Colours are CSS variables of the page (``page_colours``): ``--ink``, ``--soft``, ``--line``, and one
per kind of operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import GraphBatch, Operation


@lru_cache
def page_colours() -> str:
    """Return the style sheet with the colours of all pictures on pages, light and dark."""
    return files("nasplatform.visualization").joinpath("colours.css").read_text("utf-8")


def architecture_drawing(graphs: GraphBatch) -> str:
    """Return the first architecture of a batch as a file of SVG, with its colours."""
    head, _, rest = cell_drawing(graphs).partition(">")
    style = f"{page_colours()} text {{ font: 12.5px system-ui, sans-serif; fill: var(--ink) }}"
    return f"{head}><style>{style}</style>{rest}"


def cell_drawing(graphs: GraphBatch) -> str:
    """Draw the first architecture of a batch: a box per node, top to bottom, edges curved."""
    adjacency, ops = graphs.adjacency[0], graphs.ops[0]
    shown = [int(i) for i in np.flatnonzero(_connected(adjacency))]
    depth = _depths(adjacency)
    rows: dict[int, list[int]] = {}
    for node in shown:
        rows.setdefault(depth[node], []).append(node)
    height = _STEP * len(rows) - 14
    half = {node: _half(graphs.vocabulary[int(ops[node])]) for node in shown}
    place = {
        node: (x, 30.0 + _STEP * index)
        for index, (_, row) in enumerate(sorted(rows.items()))
        for node, x in _side_by_side(row, half).items()
    }
    edges = []
    ends = [side * (place[n][0] + side * half[n]) for side in (-1, 1) for n in shown]
    low, high = -max(ends[: len(shown)]), max(ends[len(shown) :])
    pairs = [(a, b) for a in shown for b in shown if adjacency[a, b]]
    sides = cycle((1, -1))  # edges from middle to middle swing out right and left in turn
    for a, b in pairs:
        bend = 0.0
        if depth[b] - depth[a] > 1:
            passed = [n for n in shown if depth[a] < depth[n] < depth[b]]
            aside = round(place[a][0] + place[b][0])
            side = (aside > 0) - (aside < 0) or next(sides)
            bend = _bend(place[a], place[b], side, [(*place[n], half[n]) for n in passed])
        left, right = _reach(place[a], place[b], bend)
        low, high = min(low, left), max(high, right)
        edges.append(_edge(place[a], place[b], bend))
    boxes = [_box(place[node], graphs.vocabulary[int(ops[node])]) for node in shown]
    low, width = low - 8, high - low + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{low:.0f} 0 {width:.0f} {height}" '
        f'width="{width:.0f}" '
        f'role="img" aria-label="{_words(graphs, shown, len(pairs))}" class="cell">'
        f"{_ARROW}{''.join(edges)}{''.join(boxes)}</svg>"
    )


_ASIDE = 26  # of the middle of a box, where a bent edge begins and ends
_STEP = 74  # from row to row
_GAP = 20  # between boxes of a row
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="var(--soft)"/></marker></defs>'
)


def _words(graphs: GraphBatch, shown: list[int], edges: int) -> str:
    """Return what is drawn for who cannot see it."""
    names = ", ".join(graphs.vocabulary[int(graphs.ops[0][node])].name for node in shown)
    return escape(f"The architecture: {names}; {edges} edges")


def _connected(adjacency: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (N,) nodes on a path from input to output, both of which are always shown."""
    n = len(adjacency)
    reach = np.eye(n, dtype=bool)
    for _ in range(n):
        reach |= reach @ adjacency.astype(bool)
    on_path: NDArray[np.bool_] = reach[0] & reach[:, -1]
    on_path[[0, -1]] = True
    return on_path


def _depths(adjacency: NDArray[np.uint8]) -> list[int]:
    """Return the longest path from the input to each node; nodes are in topological order."""
    depth = [0] * len(adjacency)
    for node in range(1, len(adjacency)):
        before = [depth[i] + 1 for i in np.flatnonzero(adjacency[:, node])]
        depth[node] = max(before, default=0)
    depth[-1] = max(max(depth), 1)
    return depth


def _half(operation: Operation) -> float:
    """Return half the width of a box."""
    return max(48, 4 * len(escape(operation.name)) + 12)


def _side_by_side(row: Sequence[int], half: Mapping[int, float]) -> dict[int, float]:
    """Return the middle of each box of a row, which is centred around 0."""
    left = -sum(half[node] for node in row) - _GAP * (len(row) - 1) / 2
    found = {}
    for node in row:
        found[node] = left + half[node]
        left += 2 * half[node] + _GAP
    return found


def _bend(
    start: tuple[float, float],
    end: tuple[float, float],
    side: int,
    passed: Sequence[tuple[float, float, float]],
) -> float:
    """Return how far the handles of an edge lie aside, so that it passes the boxes between.

    passed: x, y and half the width of each box. An edge has swung out by 3 t (1 - t) times as far
    where a share t of its height is behind it.
    """
    top, height = start[1] + 17, end[1] - start[1] - 36
    near = min(side * start[0], side * end[0]) + _ASIDE
    needed = [92.0]
    for x, y, half in passed:
        shares = [(y + edge - top) / height for edge in (-17, 17)]
        swung = min(3 * t * (1 - t) for t in shares)
        needed.append((side * x + half + 10 - near) / swung)
    return side * max(needed)


def _reach(
    start: tuple[float, float], end: tuple[float, float], bend: float
) -> tuple[float, float]:
    """Return how far a bent edge reaches to the left and to the right."""
    tops = [x + 0.75 * bend + (_ASIDE if bend > 0 else -_ASIDE) for x in (start[0], end[0])]
    return (min(tops), max(tops)) if bend else (start[0], start[0])


def _edge(start: tuple[float, float], end: tuple[float, float], bend: float) -> str:
    """Draw an edge; ``bend`` says how far its handles lie aside, and to which side."""
    side = (bend > 0) - (bend < 0)
    x, y, to_x, to_y = start[0] + _ASIDE * side, start[1] + 17, end[0] + _ASIDE * side, end[1] - 19
    third = (to_y - y) / (3 if side else 2)
    path = (
        f"M{x:.0f} {y:.0f}C{x + bend:.0f} {y + third:.0f} {to_x + bend:.0f} {to_y - third:.0f} "
        f"{to_x:.0f} {to_y:.0f}"
    )
    return (
        f'<path d="{path}" fill="none" stroke="var(--soft)" stroke-width="1.6" '
        f'marker-end="url(#arrow)"/>'
    )


def _box(at: tuple[float, float], operation: Operation) -> str:
    x, y = at
    name = escape(operation.name)
    half = _half(operation)
    return (
        f'<rect x="{x - half:.0f}" y="{y - 17:.0f}" width="{2 * half:.0f}" height="34" rx="9" '
        f'class="node" fill="var(--{operation.kind}, var(--box))" stroke="var(--line)"/>'
        f'<text class="name" x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{name}</text>'
    )
