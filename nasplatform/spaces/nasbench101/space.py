"""The space itself: text forms, sampling, neighbours, arrays, networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from torch import nn

from nasplatform.errors import ArchitectureError, InputError
from nasplatform.foreign import parse_json
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
from nasplatform.spaces.nasbench101.cells import (
    INTERIOR_OPS,
    MAX_EDGES,
    MAX_VERTICES,
    VOCABULARY,
    Cell,
    Cells,
    pack,
    prune,
    unpack,
)
from nasplatform.spaces.nasbench101.costs import Skeleton, count, resolution
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells
from nasplatform.spaces.nasbench101.forms import from_api, from_md5, from_nni
from nasplatform.spaces.nasbench101.index import MD5
from nasplatform.spaces.nasbench101.text import parse_compact

_SHORT = {"3": "conv3x3-bn-relu", "1": "conv1x1-bn-relu", "M": "maxpool3x3"}
_LETTERS = {name: letter for letter, name in _SHORT.items()}
_INTERIOR = range(1, MAX_VERTICES - 1)
_PAIRS = [(row, column) for row in range(MAX_VERTICES) for column in range(row + 1, MAX_VERTICES)]
_PARAMETERS = (*(f"edge_{i}_{j}" for i, j in _PAIRS), *(f"op_{v}" for v in _INTERIOR))
_JSON = 'expected JSON {"matrix": [[...]], "ops": [...]}'
_OUTPUT = MAX_VERTICES - 1


class NASBench101(Space[Cell]):
    """NAS-Bench-101's cells in any skeleton of stacked modules.

    Two text forms are read: the field's ``{"matrix": [[...]], "ops": [...]}`` as JSON, and a
    compact one, ``[OPS]BITS``: the interior operations in vertex order (3 = conv3x3-bn-relu,
    1 = conv1x1-bn-relu, M = maxpool3x3), then the row-major strict upper triangle of the
    adjacency matrix as 0 and 1, rows set apart by ``/``. ``format`` writes the compact one.
    ``nasbench-api:`` and ``nni:`` before a JSON text say that it is of another tool, ``md5:``
    before 32 hexadecimal digits that they are the benchmark's name of a cell.
    """

    name: ClassVar[str] = "nasbench101"
    prior: ClassVar[str] = "uniform over the 423,624 unique cells"
    Options: ClassVar[type[Skeleton]] = Skeleton
    forms: ClassVar[Readers] = {"md5": from_md5, "nasbench-api": from_api, "nni": from_nni}
    options: Skeleton

    def parse(self, text: str) -> Cell:
        """Read any text form; raise ArchitectureError that says what is wrong and where."""
        text = as_text(text).strip()
        if (other := split_form(text, self.forms)) is not None:
            return self.read(other[1], other[0])
        if MD5.fullmatch(text.lower()):
            return self.read(text, "md5")
        if text.startswith(("{", "[[")):
            return _parse_json(text)
        return _parse_compact("".join(text.split()).replace("m", "M"))

    def parse_many(self, texts: Iterable[str]) -> tuple[Cells, dict[int, ArchitectureError]]:
        """Read many texts; compact ones as arrays, about a hundred times faster than ``parse``."""
        texts = in_order(texts)
        codes, done = parse_compact([text if isinstance(text, str) else "" for text in texts])
        errors: dict[int, ArchitectureError] = {}
        for index in np.flatnonzero(~done).tolist():
            try:
                codes[index] = self.parse(as_text(texts[index])).code
                done[index] = True
            except ArchitectureError as error:
                errors[index] = error
        return Cells(codes[done]), errors

    def format(self, architecture: Cell) -> str:
        """Return the compact form, e.g. ``[3M]101/10/1`` for four vertices."""
        architecture = architecture_of(architecture, Cell)
        matrix, ops = architecture.matrix, architecture.ops[1:-1]
        rows = ["".join(map(str, row[i + 1 :])) for i, row in enumerate(matrix[:-1])]
        return f"[{''.join(_LETTERS[op] for op in ops)}]{'/'.join(rows)}"

    def population(self, architectures: Sequence[Cell]) -> Cells:
        """Pack cells; a population is returned as it is."""
        if isinstance(architectures, Cells):
            return architectures
        cells = architectures_of(architectures, Cell)
        return Cells(np.array([cell.code for cell in cells], np.uint64))

    def from_codes(self, codes: NDArray[np.uint64]) -> Cells:
        """Wrap packed codes (B,)."""
        return Cells(codes)

    def enumerate(self) -> Cells:
        """Return all 423,624 unique cells; the first call takes a few seconds."""
        return enumerate_cells()

    def sample(self, n: int, rng: np.random.Generator) -> Cells:
        """Draw cells uniformly, with replacement, over the unique ones."""
        check_draw(n, rng)
        cells = self.enumerate()
        return cells[rng.integers(len(cells), size=n)]

    def neighbours(self, architectures: Sequence[Cell]) -> Cells:
        """Return the unique cells one edit away.

        An edit changes one operation, adds or removes one edge, or inserts a vertex between two
        others; what this disconnects is pruned.
        """
        cells = self.population(architectures)
        edited = np.concatenate([_relabelled(cells), _rewired(cells), _grown(cells)])
        around = _valid(*unpack(edited)).unique()
        return around[~np.isin(around.keys, cells.keys)]

    def graphs(self, architectures: Sequence[Cell]) -> GraphBatch:
        """Turn cells into arrays: N = 7 nodes, C = stacks x modules_per_stack cells."""
        adjacency, ops = unpack(self.population(architectures).codes[:, 0])
        costs = count(adjacency, ops, self.options)
        return GraphBatch(
            space=self.name,
            vocabulary=VOCABULARY,
            stages=self.options.stages,
            adjacency=adjacency,
            ops=ops,
            resolution=resolution(self.options, len(ops)),
            **costs._asdict(),
        )

    def from_graphs(self, graphs: GraphBatch) -> Cells:
        """Return the cells of which ``graphs`` made these arrays."""
        if graphs.vocabulary != VOCABULARY:
            raise ArchitectureError(f"graphs of space {graphs.space!r}, expected {self.name!r}")
        return Cells(pack(graphs.adjacency, graphs.ops))

    def contains_codes(self, codes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return (B,): which codes (B, 1) are pruned cells of at most nine edges."""
        adjacency, ops = unpack(codes[:, 0])
        absent = ops < 0
        adjacency[absent] = 0
        adjacency.transpose(0, 2, 1)[absent] = 0
        small, labels, connected = prune(adjacency, ops)
        held: NDArray[np.bool_] = (
            connected & (small.sum((1, 2)) <= MAX_EDGES) & (pack(small, labels) == codes[:, 0])
        )
        return held

    def build(self, architecture: Cell) -> nn.Module:
        """Make the network with nasbench-pytorch, freshly initialised from torch's generator."""
        architecture = architecture_of(architecture, Cell)
        from nasplatform.spaces.nasbench101.network import build

        return build(architecture, self.options)

    def blocks(self, module: nn.Module) -> list[nn.Module]:
        """Return stem and cells; the pooling before a stack belongs to its first cell."""
        layers = module.get_submodule("layers").children()
        return [layer for layer in layers if not isinstance(layer, nn.MaxPool2d)]

    def distributions(self) -> dict[str, BaseDistribution]:
        """21 yes-or-no edges and 5 operations of the padded cell."""
        names = [VOCABULARY[op].name for op in INTERIOR_OPS]
        choices: dict[str, Sequence[int] | Sequence[str]] = {
            f"edge_{i}_{j}": [0, 1] for i, j in _PAIRS
        }
        choices |= {f"op_{v}": names for v in _INTERIOR}
        return {name: CategoricalDistribution(values) for name, values in choices.items()}

    def to_params(self, architecture: Cell) -> dict[str, Any]:
        """Express a cell in the padded parameters; an absent vertex is a conv3x3 without edges."""
        architecture = architecture_of(architecture, Cell)
        adjacency, ops = unpack(np.array([architecture.code], np.uint64))
        params: dict[str, Any] = {f"edge_{i}_{j}": int(adjacency[0, i, j]) for i, j in _PAIRS}
        names = [VOCABULARY[max(int(op), INTERIOR_OPS[0])].name for op in ops[0]]
        return params | {f"op_{v}": names[v] for v in _INTERIOR}

    def from_params(self, params: Mapping[str, Any]) -> Cell:
        """Read parameters back.

        A repair is always the same: an unconnected cell gets the edge input -> output, and while
        more than nine edges are left after pruning the last one in row-major order goes.
        Raises ArchitectureError for a parameter that is missing.
        """
        required(params, _PARAMETERS)
        adjacency = np.zeros((1, MAX_VERTICES, MAX_VERTICES), np.uint8)
        for i, j in _PAIRS:
            adjacency[0, i, j] = params[f"edge_{i}_{j}"]
        names = ["input", *(params[f"op_{v}"] for v in _INTERIOR), "output"]
        index = [operation.name for operation in VOCABULARY]
        ops = np.array([[index.index(name) for name in names]], np.int8)
        adjacency, ops, connected = prune(adjacency, ops)
        if not connected[0]:
            adjacency[0, 0, _OUTPUT] = 1
        while adjacency.sum() > MAX_EDGES:
            trimmed = adjacency.copy()
            for row, column in np.argwhere(adjacency[0])[::-1]:
                trimmed = adjacency.copy()
                trimmed[0, row, column] = 0
                if prune(trimmed, ops)[2][0]:
                    break
            adjacency, ops, _ = prune(trimmed, ops)
        return Cell(int(pack(adjacency, ops)[0]))


def _parse_json(text: str) -> Cell:
    try:
        value = parse_json(text)
    except InputError as error:
        raise ArchitectureError(f"{error}: {text[:60]!r}") from None
    except (ValueError, RecursionError):
        raise ArchitectureError(f"{_JSON}, found {text[:60]!r}") from None
    try:
        return from_api(value)
    except ArchitectureError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise ArchitectureError(f"{_JSON}, found {text[:60]!r}") from None


def _parse_compact(text: str) -> Cell:
    head, closed, tail = text.removeprefix("[").partition("]")
    if not text.startswith("[") or not closed:
        raise ArchitectureError(
            f"expected '[OPS]BITS' such as '[3M]101/10/1' or JSON, found {text[:60]!r}"
        )
    for position, letter in enumerate(head):
        if letter not in _SHORT:
            raise ArchitectureError(
                f"{text!r:.60}: operation {letter!r} at position {position + 1}, expected 3, 1 or M"
            )
    n = len(head) + 2
    rows = tail.split("/")
    if [len(row) for row in rows] != list(range(n - 1, 0, -1)) or set(tail) - set("01/"):
        lengths = ", ".join(str(k) for k in range(n - 1, 0, -1))
        raise ArchitectureError(
            f"{text!r:.60}: {n} vertices need rows of {lengths} bits set apart by '/', "
            f"found {tail!r:.40}"
        )
    matrix = [[0] * (i + 1) + [int(bit) for bit in row] for i, row in enumerate(rows)]
    return Cell.of([*matrix, [0] * n], ["input", *(_SHORT[letter] for letter in head), "output"])


def _valid(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> Cells:
    """Prune and keep what is connected and has at most nine edges."""
    adjacency, ops, connected = prune(adjacency, ops)
    keep = connected & (adjacency.sum((1, 2)) <= MAX_EDGES)
    return Cells(pack(adjacency[keep], ops[keep]))


def _relabelled(cells: Cells) -> NDArray[np.uint64]:
    adjacency, ops = unpack(cells.codes[:, 0])
    edited = []
    for vertex in _INTERIOR:
        for op in INTERIOR_OPS:
            there = (ops[:, vertex] >= 0) & (ops[:, vertex] != op)
            changed = ops[there].copy()
            changed[:, vertex] = op
            edited.append(pack(adjacency[there], changed))
    return np.concatenate(edited)


def _rewired(cells: Cells) -> NDArray[np.uint64]:
    bits = np.uint64(1) << np.arange(len(_PAIRS), dtype=np.uint64)
    real = unpack(cells.codes[:, 0])[1] >= 0
    toggled = cells.codes ^ bits
    allowed = np.stack([real[:, i] & real[:, j] for i, j in _PAIRS], axis=1)
    return toggled[allowed]


def _grown(cells: Cells) -> NDArray[np.uint64]:
    """Insert a vertex with one edge in and one edge out, with and without the edge it bridges."""
    adjacency, ops = unpack(cells.codes[:, 0])
    room = ops[:, _OUTPUT - 1] < 0
    adjacency, ops = adjacency[room], ops[room]
    edited = []
    for row, column in _PAIRS:
        there = (ops[:, row] >= 0) & (ops[:, column] >= 0)
        wide, labels = _open_a_gap(adjacency[there], ops[there], column)
        after = column if column == _OUTPUT else column + 1
        gap = _OUTPUT - 1 if column == _OUTPUT else column
        for op in INTERIOR_OPS:
            labels[:, gap] = op
            wide[:, row, gap] = wide[:, gap, after] = 1
            edited.append(pack(wide, labels))
            bridged = wide.copy()
            bridged[:, row, after] = 0
            edited.append(pack(bridged, labels))
    return np.concatenate(edited)


def _open_a_gap(
    adjacency: NDArray[np.uint8], ops: NDArray[np.int8], column: int
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Move the last padding vertex to stand before ``column`` (it already does for the output)."""
    if column == _OUTPUT:
        return adjacency.copy(), ops.copy()
    order = [*range(column), _OUTPUT - 1, *range(column, _OUTPUT - 1), _OUTPUT]
    return adjacency[:, order][:, :, order], ops[:, order]
