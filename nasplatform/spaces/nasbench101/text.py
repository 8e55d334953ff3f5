"""Many compact text forms at once: ``[OPS]BITS`` read as arrays of bytes.

A text of V vertices has one length, known beforehand, so that texts of one length are one
matrix of bytes whose columns each have one meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.nasbench101.cells import (
    CONV1X1,
    CONV3X3,
    INPUT,
    MAX_EDGES,
    MAX_VERTICES,
    MAXPOOL3X3,
    OUTPUT,
    pack,
    prune,
)

_OPS = np.full(256, -1, np.int8)
_OPS[[ord("3"), ord("1"), ord("M")]] = CONV3X3, CONV1X1, MAXPOOL3X3


def parse_compact(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Read compact texts in bulk.

    Returns codes (B,) and a mask (B,) of the texts that were read. The others (another text
    form, or no valid cell) have code 0 and are for the parser of one text, which says what is
    wrong with them.
    """
    codes, done = np.zeros(len(texts), np.uint64), np.zeros(len(texts), bool)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    for vertices in range(2, MAX_VERTICES + 1):
        where = np.flatnonzero(lengths == _length(vertices))
        if not len(where):
            continue
        # What is no ASCII becomes '?', which stands in no valid text.
        joined = "".join([texts[i] for i in where.tolist()]).encode("ascii", "replace")
        letters = np.frombuffer(joined, np.uint8).reshape(len(where), -1)
        codes[where], done[where] = _parse_one_length(letters, vertices)
    return codes, done


def _length(vertices: int) -> int:
    """Brackets and interior operations, upper triangle, and a slash between its rows."""
    return vertices + vertices * (vertices - 1) // 2 + vertices - 2


@cache
def _layout(vertices: int) -> tuple[dict[int, int], list[int], list[int], list[int]]:
    """Return the place of each sign with its letter, the places of the bits, and their edges."""
    nodes = [*range(vertices - 1), MAX_VERTICES - 1]
    signs, bits, edges = {0: ord("["), vertices - 1: ord("]")}, list[int](), list[tuple[int, int]]()
    at = vertices
    for row in range(vertices - 1):
        if row:
            signs[at] = ord("/")
            at += 1
        bits += range(at, at + vertices - 1 - row)
        edges += [(nodes[row], column) for column in nodes[row + 1 :]]
        at += vertices - 1 - row
    return signs, bits, [row for row, _ in edges], [column for _, column in edges]


def _parse_one_length(
    letters: NDArray[np.uint8], vertices: int
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Read letters (B, L) of cells with this many vertices; return codes (B,) and a mask (B,)."""
    signs, bits_at, rows, columns = _layout(vertices)
    interior = _OPS[letters[:, 1 : vertices - 1]]
    bits = letters[:, bits_at] - ord("0")  # wraps round: what is no bit is above 1
    good = (letters[:, list(signs)] == list(signs.values())).all(1)
    good &= (interior >= 0).all(1) & (bits <= 1).all(1)
    adjacency = np.zeros((len(letters), MAX_VERTICES, MAX_VERTICES), np.uint8)
    adjacency[:, rows, columns] = bits
    ops = np.full((len(letters), MAX_VERTICES), -1, np.int8)
    ops[:, 0], ops[:, -1] = INPUT, OUTPUT
    ops[:, 1 : vertices - 1] = interior
    adjacency[~good] = 0
    adjacency, ops, connected = prune(adjacency, ops)
    good &= connected & (adjacency.sum((1, 2)) <= MAX_EDGES)
    return np.where(good, pack(adjacency, ops), np.uint64(0)), good
