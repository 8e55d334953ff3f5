"""Cells as other tools write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.nasbench101.cells import Cell

_INTERIOR = 5


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
    rows = [[int(cell) for cell in row] for row in matrix]
    return Cell.of(rows, [str(name) for name in operations])


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
    operations = ["input", *(_operation(value[f"op{k}"]) for k in range(1, last)), "output"]
    return Cell.of(matrix, operations)


def _operation(name: str) -> str:
    known = {"conv3x3": "conv3x3-bn-relu", "conv1x1": "conv1x1-bn-relu"}
    return known.get(name, name)
