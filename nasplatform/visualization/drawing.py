"""Architectures as SVG text: cells, chains and transformers, whatever their graph is.

Colours are CSS variables of the page (``page_colours``): ``--ink``, ``--soft``, ``--line``, and one
per kind of operation.
"""

from __future__ import annotations

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
    widest = max(len(row) for row in rows.values())
    pairs = [(a, b) for a in shown for b in shown if adjacency[a, b]]
    longest = max(depth[b] - depth[a] for a, b in pairs) if pairs else 1
    width, height = 140 * widest + 70 * longest, 74 * len(rows) - 14
    place = {
        node: (width * (i + 1) / (len(row) + 1), 30 + 74.0 * index)
        for index, (_, row) in enumerate(sorted(rows.items()))
        for i, node in enumerate(row)
    }
    edges = []
    sides = cycle((1, -1))  # edges that skip a level swing out right and left in turn
    for a, b in pairs:
        levels = depth[b] - depth[a]
        edges.append(_edge(place[a], place[b], next(sides) * levels if levels > 1 else 0))
    boxes = [_box(place[node], graphs.vocabulary[int(ops[node])]) for node in shown]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{_words(graphs, shown, len(pairs))}" class="cell">'
        f"{_ARROW}{''.join(edges)}{''.join(boxes)}</svg>"
    )


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


def _edge(start: tuple[float, float], end: tuple[float, float], swing: int) -> str:
    """Draw an edge; ``swing`` says how far it goes aside, in levels, and to which side."""
    side = (swing > 0) - (swing < 0)
    x, y, to_x, to_y = start[0] + 26 * side, start[1] + 17, end[0] + 26 * side, end[1] - 19
    bend = 46 * swing
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
    half = max(48, 4 * len(name) + 12)
    return (
        f'<rect x="{x - half:.0f}" y="{y - 17:.0f}" width="{2 * half}" height="34" rx="9" '
        f'class="node" fill="var(--{operation.kind}, var(--box))" stroke="var(--line)"/>'
        f'<text class="name" x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{name}</text>'
    )
