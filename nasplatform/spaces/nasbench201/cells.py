"""Cells as one integer, and the tables that turn all 15,625 of them into arrays.

A cell has four nodes and one operation on each of the six edges between them; a node is the sum
of what its edges bring. The code of a cell is the number whose six digits in base 5 are the
operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2, the first edge most significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.base import Population
from nasplatform.spaces.graph import Operation
from nasplatform.spaces.nasbench201.identity import OPERATIONS, class_hashes, classes

NONE, SKIP, CONV1X1, CONV3X3, AVGPOOL = range(len(OPERATIONS))
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (source, target), in official order
CELL_OUTPUT = 3
N_CELLS = len(OPERATIONS) ** len(EDGES)

# The graph has a node per edge of the cell, between the input and the output.
N_NODES = len(EDGES) + 2
VOCABULARY = (
    Operation("input", "input"),
    Operation("none", "zero"),
    Operation("skip_connect", "skip"),
    Operation("nor_conv_1x1", "conv", kernel=1, nonlinear=True, normalised=True),
    Operation("nor_conv_3x3", "conv", kernel=3, nonlinear=True, normalised=True),
    Operation("avg_pool_3x3", "pool", kernel=3),
    Operation("output", "output"),
)
_FIRST_OP, _OUTPUT_OP = 1, len(VOCABULARY) - 1

PLACES = len(OPERATIONS) ** np.arange(len(EDGES))[::-1]


@cache
def digits() -> NDArray[np.int8]:
    """Return (15625, 6): the operation of each edge, by code."""
    codes = np.arange(N_CELLS)
    table = (codes[:, None] // PLACES % len(OPERATIONS)).astype(np.int8)
    table.flags.writeable = False
    return table


@cache
def graph_tables() -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Return adjacency (15625, 8, 8) uint8 and ops (15625, 8) int8, by code.

    The node of edge b -> a receives from the nodes of all edges that end in b, or from the input
    where b is 0; the output receives from all that end in node 3. ``none`` has no edges at all.
    """
    operations = digits()
    ops = np.empty((N_CELLS, N_NODES), np.int8)
    ops[:, 0], ops[:, 1:-1], ops[:, -1] = 0, operations + _FIRST_OP, _OUTPUT_OP
    adjacency = np.zeros((N_CELLS, N_NODES, N_NODES), np.uint8)
    carries = operations != NONE
    for node, (source, target) in enumerate(EDGES):
        if source == 0:
            adjacency[:, 0, 1 + node] = carries[:, node]
        if target == CELL_OUTPUT:
            adjacency[:, 1 + node, -1] = carries[:, node]
        for later, (start, _) in enumerate(EDGES):
            if start == target:
                adjacency[:, 1 + node, 1 + later] = carries[:, node] & carries[:, later]
    adjacency.flags.writeable = ops.flags.writeable = False
    return adjacency, ops


def codes_of(ops: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Return the codes (B,) of cells whose nodes have these ops (B, 8), as in ``graph_tables``."""
    found: NDArray[np.int64] = (ops[:, 1:-1].astype(np.int64) - _FIRST_OP) @ PLACES
    return found.astype(np.uint64)


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell as labelled. Equal to every cell with the same canonical string."""

    code: int

    def __post_init__(self) -> None:
        if not 0 <= self.code < N_CELLS:
            raise ArchitectureError(f"code {self.code} is not between 0 and {N_CELLS - 1}")

    @classmethod
    def of(cls, operations: Sequence[str]) -> Cell:
        """Make a cell from the names of six operations, in the order of ``EDGES``.

        Raises ArchitectureError that says which one is wrong.
        """
        if len(operations) != len(EDGES):
            raise ArchitectureError(f"{len(operations)} operations given, expected {len(EDGES)}")
        for name, (source, target) in zip(operations, EDGES, strict=True):
            if name not in OPERATIONS:
                raise ArchitectureError(
                    f"operation of edge {target}<-{source} is {name!r:.40}, "
                    f"expected {', '.join(OPERATIONS)}"
                )
        return cls(int(np.dot([OPERATIONS.index(name) for name in operations], PLACES)))

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the six operations, in the order of ``EDGES``."""
        return tuple(OPERATIONS[digit] for digit in digits()[self.code])

    @property
    def key(self) -> int:
        """The code that stands for the isomorphism class."""
        return int(classes()[self.code])

    @cached_property
    def hash(self) -> str:
        """The md5 of the canonical string; isomorphic cells share it."""
        return class_hashes()[self.key]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Cells(Population[Cell]):
    """A population of cells, 8 bytes each."""

    def __init__(self, codes: NDArray[np.uint64]) -> None:
        """Take codes (B, 1) or (B,); raise ArchitectureError for one that is no cell."""
        super().__init__(codes)
        if len(self.codes) and int(self.codes.max()) >= N_CELLS:
            row = int(self.codes.argmax())
            raise ArchitectureError(
                f"code {int(self.codes[row, 0])} in row {row} is not between 0 and {N_CELLS - 1}"
            )

    def _unpack(self, code: NDArray[np.uint64]) -> Cell:
        return Cell(int(code[0]))

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(B,) the code that stands for the isomorphism class of each cell."""
        return classes()[self.codes[:, 0].astype(np.intp)]

    @cached_property
    def hashes(self) -> list[str]:
        """The md5 of the canonical string of every cell."""
        known = class_hashes()
        return [known[key] for key in self.keys.tolist()]
