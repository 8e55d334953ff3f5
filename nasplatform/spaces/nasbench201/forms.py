"""Cells as other tools write them; where their order or names differ from the field's own."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.forms import indices
from nasplatform.spaces.nasbench201.cells import EDGES, N_CELLS, Cell
from nasplatform.spaces.nasbench201.identity import OPERATIONS

NASLIB_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""NASLib's ``op_indices``: its operations, and (source, target) of the edges, in its order."""
_SOURCES = ((0,), (0, 1), (0, 1, 2))
_NATS_SEED = 88  # of the shuffle that made the index of NAS-Bench-201 and NATS-Bench
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


def from_nb201(value: Any) -> Cell:
    """Read six operations of the edges in ``EDGES``' order, as indices or as names.

    The nodes of the field's own code do as well: ``[[(op, 0)], [(op, 0), (op, 1)], ...]``.
    """
    terms = list(value)
    if len(terms) == len(_SOURCES) and all(isinstance(node, (list, tuple)) for node in terms):
        pairs = [pair for node in terms for pair in node]
        if [int(source) for _, source in pairs] != [source for source, _ in EDGES]:
            raise ArchitectureError(f"expected nodes with the sources {_SOURCES}, found {value}")
        terms = [name for name, _ in pairs]
    if all(isinstance(name, str) for name in terms):
        return Cell.of([usual_name(name) for name in terms])
    return Cell.of([OPERATIONS[n] for n in indices(terms, len(EDGES), len(OPERATIONS))])


def from_nats_index(value: Any) -> Cell:
    """Read the number of a cell in NAS-Bench-201's and NATS-Bench's list, 0 to 15,624."""
    number = int("".join(map(str, value))) if isinstance(value, list) else value
    if isinstance(number, bool) or number != int(number) or not 0 <= number < N_CELLS:
        raise ArchitectureError(f"index {number} is no whole number from 0 to {N_CELLS - 1}")
    return Cell(_nats_order()[int(number)])


@cache
def _nats_order() -> list[int]:
    """Return the codes of all cells in the order of the benchmark's index.

    Its authors list all cells in the order of their codes and shuffle them by a fixed seed.
    """
    codes = list(range(N_CELLS))
    random.Random(_NATS_SEED).shuffle(codes)
    return codes


def from_nni(value: Any) -> Cell:
    """Read NNI's mapping ``{"0_1": "conv_3x3", ...}``, SOURCE_TARGET to operation."""
    if not isinstance(value, Mapping):
        raise ArchitectureError(f"expected a mapping such as {{'0_1': 'conv_3x3'}}, found {value}")
    names = [f"{source}_{target}" for source, target in EDGES]
    if set(value) != set(names):
        raise ArchitectureError(f"expected the keys {', '.join(names)}, found {', '.join(value)}")
    return Cell.of([usual_name(value[name]) for name in names])
