"""Cells as other tools write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.nasbench101.cells import Cell
from nasplatform.spaces.nasbench101.index import find_cell

_INTERIOR = 5
_NAMES = {
    **{f"conv{k}x{k}{tail}": f"conv{k}x{k}-bn-relu" for k in (1, 3) for tail in ("", "bnrelu")},
    "maxpool": "maxpool3x3",
}


def from_api(value: Any) -> Cell:
    """Read ``nasbench``'s records: ``module_adjacency``, ``module_operations``.

    A pair (matrix, operations) does as well.
    """
    if isinstance(value, Mapping):
        names = ("module_adjacency", "module_operations")
        if not set(names) <= value.keys():
            names = ("matrix", "ops")
        value = [value[name] for name in names]
    matrix, operations = value
    return Cell.of(matrix, [usual_name(name) for name in operations])


def from_nni(value: Any) -> Cell:
    """Read NNI's ``{"op1": ..., "input1": [0], ...}``.

    ``inputK`` names the vertices that flow into vertex K; the last vertex, which has inputs and no
    operation, is the output.
    """
    if not isinstance(value, Mapping):
        raise ArchitectureError(f"expected a mapping of op1, input1, ..., found {value!r}")
    last = 1
    while f"op{last}" in value:
        last += 1
    known = {f"op{k}" for k in range(1, last)} | {f"input{k}" for k in range(1, last + 1)}
    if last > _INTERIOR + 1 or set(value) - {"num_vertices"} != known:
        raise ArchitectureError(
            f"expected op1 to op{last - 1} and input1 to input{last}, found {', '.join(value)}"
        )
    matrix = [[0] * (last + 1) for _ in range(last + 1)]
    for target in range(1, last + 1):
        for source in value[f"input{target}"]:
            if not 0 <= int(source) < target:
                raise ArchitectureError(f"input{target} is {source!r}, expected 0 to {target - 1}")
            matrix[int(source)][target] = 1
    operations = ["input", *(usual_name(value[f"op{k}"]) for k in range(1, last)), "output"]
    return Cell.of(matrix, operations)


def from_md5(value: Any) -> Cell:
    """Read the md5 by which the benchmark knows a cell; the first call may take half a minute."""
    return find_cell(value if isinstance(value, str) else "".join(map(str, value)))


def usual_name(operation: str) -> str:
    """Return the field's name of an operation that is written in another usual way."""
    plain = operation.strip().lower().replace("_", "")
    return _NAMES.get(plain, plain)
