"""The space itself: text forms, sampling, neighbours, arrays, networks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from torch import nn

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.base import (
    Space,
    architecture_of,
    architectures_of,
    as_text,
    check_draw,
    in_order,
    required,
)
from nasplatform.spaces.forms import Readers, split_form
from nasplatform.spaces.graph import GraphBatch
from nasplatform.spaces.nasbench201.cells import (
    EDGES,
    N_CELLS,
    PLACES,
    VOCABULARY,
    Cell,
    Cells,
    codes_of,
    digits,
    graph_tables,
)
from nasplatform.spaces.nasbench201.costs import Skeleton, count, resolution
from nasplatform.spaces.nasbench201.forms import (
    from_naslib,
    from_nats_index,
    from_nb201,
    from_nni,
    usual_name,
)
from nasplatform.spaces.nasbench201.identity import OPERATIONS, classes

_DIGITS = "".join(str(digit) for digit in range(len(OPERATIONS)))
_EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
_LISTED = re.compile(r"\s*[\[(]?\s*\d([\s,]*\d){5}[\s,]*[\])]?\s*")  # six digits, or a list of them
_SEPARATORS = re.compile(r"\D")
_PARAMETERS = [f"edge_{source}_{target}" for source, target in EDGES]


def _read_own(value: Any) -> Cell:
    """Read six operations, or the field's own text."""
    own = isinstance(value, str) and value.startswith("|")
    return _parse_official(value) if own else from_nb201(value)


class NASBench201(Space[Cell]):
    """NAS-Bench-201's cells in any skeleton of stages.

    Two text forms are read: the field's ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, and six digits,
    the operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2 (0 = none, 1 = skip_connect,
    2 = nor_conv_1x1, 3 = nor_conv_3x3, 4 = avg_pool_3x3). ``format`` writes the field's own.
    ``naslib:``, ``nni:`` and ``nats-index:`` before a text say that it is of another tool, whose
    digits mean another cell; ``nb201:`` says that they are the six above.
    """

    name: ClassVar[str] = "nasbench201"
    prior: ClassVar[str] = "uniform over the 6,466 unique cells"
    Options: ClassVar[type[Skeleton]] = Skeleton
    forms: ClassVar[Readers] = {
        "naslib": from_naslib,
        "nats-index": from_nats_index,
        "nb201": _read_own,
        "nni": from_nni,
    }
    options: Skeleton

    def caution(self, texts: Sequence[str]) -> str | None:
        """Say that six digits are not NASLib's."""
        if any(isinstance(text, str) and _LISTED.fullmatch(text) for text in texts):
            return (
                "six digits are read as the operations of edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, "
                "3<-2 with 0 = none, 1 = skip, 2 = 1x1, 3 = 3x3, 4 = pool; for NASLib's indices "
                "write naslib: before them, nb201: to be sure"
            )
        return None

    def parse(self, text: str) -> Cell:
        """Read any text form; raise ArchitectureError that says what is wrong and where."""
        text = as_text(text).strip()
        if (other := split_form(text, self.forms)) is not None:
            return self.read(other[1], other[0])
        if text.startswith("|"):
            return _parse_official(text)
        return _parse_digits(_SEPARATORS.sub("", text) if _LISTED.fullmatch(text) else text)

    def parse_many(self, texts: Iterable[str]) -> tuple[Cells, dict[int, ArchitectureError]]:
        """Read many texts; those written as ``format`` writes them cost one look-up each."""
        known, texts = _codes(), in_order(texts)
        found = [known.get(text, -1) if isinstance(text, str) else -1 for text in texts]
        errors: dict[int, ArchitectureError] = {}
        for index, text in enumerate(texts):
            if found[index] < 0:
                try:
                    found[index] = self.parse(as_text(text)).code
                except ArchitectureError as error:
                    errors[index] = error
        return Cells(np.array([code for code in found if code >= 0], np.uint64)), errors

    def format(self, architecture: Cell) -> str:
        """Return the field's own form."""
        architecture = architecture_of(architecture, Cell)
        return _texts()[architecture.code]

    def population(self, architectures: Sequence[Cell]) -> Cells:
        """Pack cells; a population is returned as it is."""
        if isinstance(architectures, Cells):
            return architectures
        cells = architectures_of(architectures, Cell)
        return Cells(np.array([cell.code for cell in cells], np.uint64))

    def from_codes(self, codes: NDArray[np.uint64]) -> Cells:
        """Wrap packed codes (B,); raise ArchitectureError for one that is no cell."""
        return Cells(codes)

    def enumerate(self) -> Cells:
        """Return the 6,466 unique cells, of each class one with the fewest parameters."""
        return Cells(np.unique(classes()))

    def enumerate_labelled(self) -> Cells:
        """Return all 15,625 cells as labelled, in the order of their codes."""
        return Cells(np.arange(N_CELLS, dtype=np.uint64))

    def sample(self, n: int, rng: np.random.Generator) -> Cells:
        """Draw cells uniformly, with replacement, over the unique ones."""
        check_draw(n, rng)
        cells = self.enumerate()
        return cells[rng.integers(len(cells), size=n)]

    def neighbours(self, architectures: Sequence[Cell]) -> Cells:
        """Return the unique cells with the operation of one edge changed."""
        cells = self.population(architectures)
        codes = cells.codes[:, 0].astype(np.int64)
        steps = np.arange(len(OPERATIONS)) - digits()[codes][:, :, None]  # (B, 6, 5)
        edited = codes[:, None, None] + steps * PLACES[:, None]
        around = Cells(edited.reshape(-1).astype(np.uint64)).unique()
        return around[~np.isin(around.keys, cells.keys)]

    def graphs(self, architectures: Sequence[Cell]) -> GraphBatch:
        """Turn cells into arrays: N = 8 nodes, C = stages x cells_per_stage cells.

        Nodes are the input, one per edge of the cell in the order of the digits, and the output.
        """
        codes = self.population(architectures).codes[:, 0].astype(np.intp)
        wirings, operations = graph_tables()
        adjacency, ops = wirings[codes], operations[codes]
        return GraphBatch(
            space=self.name,
            vocabulary=VOCABULARY,
            stages=self.options.stage_of_cell,
            adjacency=adjacency,
            ops=ops,
            resolution=resolution(self.options, len(ops)),
            positional=True,
            **count(ops, self.options)._asdict(),
        )

    def from_graphs(self, graphs: GraphBatch) -> Cells:
        """Return the cells of which ``graphs`` made these arrays."""
        if graphs.vocabulary != VOCABULARY:
            raise ArchitectureError(f"graphs of space {graphs.space!r}, expected {self.name!r}")
        return Cells(codes_of(graphs.ops))

    def contains_codes(self, codes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return (B,): which codes (B, 1) are cells."""
        held: NDArray[np.bool_] = codes[:, 0] < N_CELLS
        return held

    def build(self, architecture: Cell) -> nn.Module:
        """Make the network, freshly initialised from torch's generator."""
        architecture = architecture_of(architecture, Cell)
        from nasplatform.spaces.nasbench201.network import Network

        return Network(architecture, self.options)

    def blocks(self, module: nn.Module) -> list[nn.Module]:
        """Return stem, cells and reductions."""
        return [module.get_submodule("stem"), *module.get_submodule("body").children()]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Six choices of an operation, ``edge_SOURCE_TARGET``."""
        return {name: CategoricalDistribution(OPERATIONS) for name in _PARAMETERS}

    def to_params(self, architecture: Cell) -> dict[str, Any]:
        """Express a cell as labelled."""
        architecture = architecture_of(architecture, Cell)
        return dict(zip(_PARAMETERS, architecture.operations, strict=True))

    def from_params(self, params: Mapping[str, Any]) -> Cell:
        """Read parameters back; every combination is a cell, so nothing is ever repaired.

        Raises ArchitectureError for one that is missing.
        """
        required(params, _PARAMETERS)
        return Cell.of([params[name] for name in _PARAMETERS])


@cache
def _texts() -> tuple[str, ...]:
    """Return the field's text of each of the 15,625 cells, by code."""
    rows = ([OPERATIONS[digit] for digit in row] for row in digits().tolist())
    return tuple(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in rows)


@cache
def _codes() -> dict[str, int]:
    return {text: code for code, text in enumerate(_texts())}


def _parse_digits(text: str) -> Cell:
    if len(text) != len(EDGES):
        raise ArchitectureError(
            f"expected six digits or a text such as {_EXAMPLE!r}, found {text[:60]!r}"
        )
    for position, (digit, (source, target)) in enumerate(zip(text, EDGES, strict=True)):
        if digit not in _DIGITS:
            raise ArchitectureError(
                f"{text!r}: digit {digit!r} at position {position + 1} (edge {target}<-{source}), "
                f"expected 0 to {_DIGITS[-1]}"
            )
    return Cell.of([OPERATIONS[int(digit)] for digit in text])


def _parse_official(text: str) -> Cell:
    nodes = text.split("+")
    if len(nodes) != 3:
        raise ArchitectureError(
            f"expected three nodes joined by '+' such as {_EXAMPLE!r}, found {text[:120]!r}"
        )
    operations: list[str] = []
    for node, part in enumerate(nodes, start=1):
        part = part.strip()
        terms = part[1:-1].split("|")
        if len(part) < 2 or part[0] != "|" or part[-1] != "|" or len(terms) != node:
            raise ArchitectureError(
                f"node {node} is {part[:60]!r}, expected {node} 'operation~source' between '|'"
            )
        for source, term in enumerate(terms):
            name, _, index = term.partition("~")
            name, index = usual_name(name), index.strip()
            if name not in OPERATIONS or index != str(source):
                raise ArchitectureError(
                    f"node {node}: found {term[:40]!r}, expected OPERATION~{source} with one of "
                    f"{', '.join(OPERATIONS)}"
                )
            operations.append(name)
    return Cell.of(operations)
