"""Cells as other tools write them; where their order or names differ from the field's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.forms import indices
from nasplatform.spaces.nasbench201.cells import EDGES, Cell

NASLIB_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""NASLib's ``op_indices``: its operations, and (source, target) of the edges, in its order."""
ALIASES = {
    "conv_3x3": "nor_conv_3x3",
    "conv_1x1": "nor_conv_1x1",
    "conv3x3": "nor_conv_3x3",
    "conv1x1": "nor_conv_1x1",
    "nor_conv3x3": "nor_conv_3x3",
    "nor_conv1x1": "nor_conv_1x1",
    "skip": "skip_connect",
    "identity": "skip_connect",
    "zero": "none",
    "zeroize": "none",
    "avg_pool": "avg_pool_3x3",
    "avgpool3x3": "avg_pool_3x3",
}


def usual_name(operation: str) -> str:
    """Return the field's name of an operation that is written in another usual way."""
    plain = operation.strip().lower()
    return ALIASES.get(plain, plain)


def from_naslib(value: Any) -> Cell:
    """Read NASLib's six operation indices."""
    numbers = indices(value, len(NASLIB_EDGES), len(NASLIB_OPERATIONS))
    chosen = {edge: NASLIB_OPERATIONS[n] for edge, n in zip(NASLIB_EDGES, numbers, strict=True)}
    return Cell.of([chosen[edge] for edge in EDGES])


def from_nni(value: Any) -> Cell:
    """Read NNI's mapping ``{"0_1": "conv_3x3", ...}``, SOURCE_TARGET to operation."""
    if not isinstance(value, Mapping):
        raise ArchitectureError(f"expected a mapping such as {{'0_1': 'conv_3x3'}}, found {value}")
    names = [f"{source}_{target}" for source, target in EDGES]
    if set(value) != set(names):
        raise ArchitectureError(f"expected the keys {', '.join(names)}, found {', '.join(value)}")
    return Cell.of([usual_name(value[name]) for name in names])
