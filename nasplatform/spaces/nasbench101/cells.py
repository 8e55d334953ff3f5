"""Cells as packed integers, and the rules that make one valid.

A cell is a directed acyclic graph of at most 7 vertices and 9 edges whose interior vertices carry
one of three operations. It is packed into 31 bits of one integer: bit ``k`` of the low 21 is the
``k``-th entry of the row-major strict upper triangle of the 7 x 7 adjacency matrix, and each
interior vertex has two bits above them (0 = padding, else the op id). Padding vertices stand
between the last interior vertex and the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.base import Population
from nasplatform.spaces.graph import Operation
from nasplatform.spaces.nasbench101.hashing import isomorphism_keys, official_hashes

MAX_VERTICES = 7
MAX_EDGES = 9
INPUT, CONV3X3, CONV1X1, MAXPOOL3X3, OUTPUT = range(5)

VOCABULARY = (
    Operation("input", "input", projects=True),
    Operation("conv3x3-bn-relu", "conv", kernel=3, nonlinear=True, normalised=True),
    Operation("conv1x1-bn-relu", "conv", kernel=1, nonlinear=True, normalised=True),
    Operation("maxpool3x3", "pool", kernel=3),
    Operation("output", "output", merge="concat"),
)
OP_IDS = {operation.name: index for index, operation in enumerate(VOCABULARY)}
INTERIOR_OPS = (CONV3X3, CONV1X1, MAXPOOL3X3)

_ROWS, _COLUMNS = np.triu_indices(MAX_VERTICES, k=1)
_N_EDGE_BITS = len(_ROWS)
_INTERIOR = MAX_VERTICES - 2
_EDGE_SHIFTS = np.arange(_N_EDGE_BITS, dtype=np.uint64)
_OP_SHIFTS = np.uint64(_N_EDGE_BITS) + 2 * np.arange(_INTERIOR, dtype=np.uint64)


def pack(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Pack padded cells, adjacency (B, 7, 7) and ops (B, 7), into codes (B,)."""
    edges = adjacency[:, _ROWS, _COLUMNS].astype(np.uint64)
    interior = np.maximum(ops[:, 1:-1], 0).astype(np.uint64)
    bits: NDArray[np.uint64] = (edges << _EDGE_SHIFTS).sum(1, dtype=np.uint64)
    codes: NDArray[np.uint64] = bits + (interior << _OP_SHIFTS).sum(1, dtype=np.uint64)
    return codes


def unpack(codes: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Return adjacency (B, 7, 7) uint8 and ops (B, 7) int8 (-1 = padding) of codes (B,)."""
    adjacency = np.zeros((len(codes), MAX_VERTICES, MAX_VERTICES), np.uint8)
    adjacency[:, _ROWS, _COLUMNS] = (codes[:, None] >> _EDGE_SHIFTS) & np.uint64(1)
    ops = np.empty((len(codes), MAX_VERTICES), np.int8)
    ops[:, 0], ops[:, -1] = INPUT, OUTPUT
    ops[:, 1:-1] = (codes[:, None] >> _OP_SHIFTS) & np.uint64(3)
    ops[:, 1:-1][ops[:, 1:-1] == 0] = -1
    return adjacency, ops


def prune(
    adjacency: NDArray[np.uint8], ops: NDArray[np.int8]
) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.bool_]]:
    """Drop the vertices that lie on no path from input to output and close the ranks.

    adjacency (B, 7, 7), ops (B, 7), both padded. Returns the same arrays of the pruned cells and
    a mask (B,) of the cells that are connected at all; the others come back without an edge.
    """
    reached = _reach(adjacency, 0)
    useful = reached & _reach(adjacency.transpose(0, 2, 1), MAX_VERTICES - 1)
    connected = useful[:, -1] & useful[:, 0]
    useful &= connected[:, None]
    kept = adjacency * (useful[:, :, None] & useful[:, None, :])
    labels = np.where(useful, ops, -1).astype(np.int8)
    labels[:, 0], labels[:, -1] = INPUT, OUTPUT
    # A stable sort moves the dropped interior vertices behind the kept ones, before the output.
    rank = np.where(labels >= 0, 0, 1)
    rank[:, -1] = 2
    order = np.argsort(rank, axis=1, kind="stable")
    kept = np.take_along_axis(kept, order[:, :, None], axis=1)
    kept = np.take_along_axis(kept, order[:, None, :], axis=2)
    return kept.astype(np.uint8), np.take_along_axis(labels, order, axis=1), connected


def _reach(adjacency: NDArray[np.uint8], start: int) -> NDArray[np.bool_]:
    """Return (B, 7): vertices that a path from ``start`` reaches, ``start`` among them."""
    reached = np.zeros(adjacency.shape[:2], bool)
    reached[:, start] = True
    edges = adjacency.astype(bool)
    for _ in range(MAX_VERTICES - 1):
        reached |= (reached[:, :, None] & edges).any(1)
    return reached


@dataclass(frozen=True, eq=False)
class Cell:
    """One valid, pruned cell. Equal to every isomorphic cell.

    ``code`` keeps the labelling that was given, because where 128 channels do not divide by the
    number of vertices that feed the output, the published channel rule depends on vertex order.
    """

    code: int

    @classmethod
    def of(cls, matrix: object, ops: Sequence[str]) -> Cell:
        """Make a cell from an adjacency matrix (V, V) and V op names, V <= 7.

        Vertices without a path from input to output are pruned, as in the benchmark. Raises
        ArchitectureError that says which rule is broken and where.
        """
        adjacency, labels = _checked(matrix, ops)
        small, names, connected = prune(adjacency[None], labels[None])
        if not connected[0]:
            raise ArchitectureError("matrix: no path leads from vertex 0 (input) to the output")
        edges = int(small.sum())
        if edges > MAX_EDGES:
            raise ArchitectureError(f"matrix: {edges} edges after pruning, at most {MAX_EDGES}")
        return cls(int(pack(small, names)[0]))

    @cached_property
    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """Adjacency (V, V) and op ids (V,) of the V vertices, without padding."""
        adjacency, ops = unpack(np.array([self.code], np.uint64))
        real = ops[0] >= 0
        return adjacency[0][np.ix_(real, real)], ops[0][real]

    @property
    def ops(self) -> list[str]:
        """Names of the operations, input and output among them."""
        return [VOCABULARY[index].name for index in self.arrays[1]]

    @property
    def matrix(self) -> list[list[int]]:
        """Adjacency matrix (V, V) as lists of 0 and 1."""
        rows: list[list[int]] = self.arrays[0].tolist()
        return rows

    @cached_property
    def hash(self) -> str:
        """The md5 by which NAS-Bench-101 knows the cell; isomorphic cells share it."""
        return official_hashes(*unpack(np.array([self.code], np.uint64)))[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self.code == other.code or self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)


class Cells(Population[Cell]):
    """A population of cells, 8 bytes each."""

    def _unpack(self, code: NDArray[np.uint64]) -> Cell:
        return Cell(int(code[0]))

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(B,) isomorphism keys."""
        return isomorphism_keys(*unpack(self.codes[:, 0]))

    @cached_property
    def hashes(self) -> list[str]:
        """Official md5 of every cell."""
        return official_hashes(*unpack(self.codes[:, 0]))


def _checked(matrix: object, ops: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Validate a matrix and op names and pad them to 7 vertices."""
    try:
        values = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArchitectureError(
            "matrix: rows of unequal length or entries that are no numbers"
        ) from None
    n = len(ops)
    if values.shape != (n, n) or not 2 <= n <= MAX_VERTICES:
        raise ArchitectureError(
            f"matrix has shape {values.shape} for {n} ops; expected (V, V) with V ops, 2 <= V <= 7"
        )
    if not np.isin(values, (0, 1)).all():
        row, column = np.argwhere(~np.isin(values, (0, 1)))[0]
        raise ArchitectureError(
            f"matrix[{row}][{column}] is {values[row, column]}, expected 0 or 1"
        )
    if np.tril(values).any():
        row, column = np.argwhere(np.tril(values))[0]
        raise ArchitectureError(
            f"matrix[{row}][{column}] is 1: only edges to later vertices are allowed (row < column)"
        )
    adjacency = np.zeros((MAX_VERTICES, MAX_VERTICES), np.uint8)
    where = [*range(n - 1), MAX_VERTICES - 1]
    adjacency[np.ix_(where, where)] = values.astype(np.uint8)
    labels = np.full(MAX_VERTICES, -1, np.int8)
    labels[where] = [_op_id(name, index, n) for index, name in enumerate(ops)]
    return adjacency, labels


def _op_id(name: str, index: int, n: int) -> int:
    allowed = {0: [INPUT], n - 1: [OUTPUT]}.get(index, list(INTERIOR_OPS))
    if not isinstance(name, str) or OP_IDS.get(name) not in allowed:
        names = " or ".join(repr(VOCABULARY[op].name) for op in allowed)
        raise ArchitectureError(f"ops[{index}] is {name!r}, expected {names}")
    return OP_IDS[name]
