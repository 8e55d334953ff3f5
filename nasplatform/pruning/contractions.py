"""The rule for products of computed matrices, of which attention is made.

Queries (heads, T, d) times keys (heads, d, S), then weights (heads, T, S) times values
(heads, S, e): both sides share their heads, and the places over which is summed.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nasplatform.pruning.couplings import places_of
from nasplatform.pruning.graph import Contraction, Groups
from nasplatform.pruning.trace import BATCH, Call, Labels, Trace


def contraction(trace: Trace, call: Call) -> Labels:
    """Multiply (n, T, d) by (n, d, S), or (T, d) by (d, S)."""
    first, second = call.args[:2]
    dims = first.dim()
    if trace.followed(first) is None and trace.followed(second) is None:
        return None
    summed, sure = _met(trace, call, (first, dims - 1), (second, dims - 2))
    if not sure:
        return None
    batch = None
    if dims == 3:
        batch = _shared(trace, call, (first, 0), (second, 0))
    rows, columns = _outer(trace, first, dims - 2), _outer(trace, second, dims - 1)
    trace.couplings.claim(batch, rows, columns, summed)
    sides = {0: batch, dims - 2: rows, dims - 1: columns} if dims == 3 else {0: rows, 1: columns}
    lengths = (*call.made.shape, first.shape[-1])
    trace.contractions.append(Contraction(lengths, (*sides.values(), summed), BATCH))
    if summed is not None:
        trace.seen_whole(call, dims - 1, summed)
    known = {axis: groups for axis, groups in sides.items() if groups is not None}
    return trace.couplings.spread(known, dims)


def _met(trace: Trace, call: Call, *sides: tuple[Tensor, int]) -> tuple[Groups | None, bool]:
    """Unite what meets on the axis over which is summed; False where one side does not tell."""
    found = [(tensor, axis, _slices(trace, tensor, axis)) for tensor, axis in sides]
    known = [groups for _, _, groups in found if groups is not None]
    if not known:
        return None, True
    sure = True
    for tensor, axis, groups in found:
        if groups is not None:
            trace.couplings.unite(known[0], groups)
        else:
            sure &= trace.followed(tensor) is None and trace.couple(tensor, axis, known[0])
    return known[0], sure


def _shared(trace: Trace, call: Call, *sides: tuple[Tensor, int]) -> Groups | None:
    """Unite what stands at the same place of a batch of matrices."""
    found = [(tensor, axis, _slices(trace, tensor, axis)) for tensor, axis in sides]
    known = [groups for _, _, groups in found if groups is not None]
    for tensor, axis, groups in found:
        if groups is not None:
            trace.couplings.unite(known[0], groups)
        elif known:  # spread over the batch, or a parameter for each place
            trace.couple(tensor, axis, known[0])
    return known[0] if known else None


def _outer(trace: Trace, tensor: Tensor, axis: int) -> Groups | None:
    if trace.followed(tensor) is None:
        return trace.of_parameter(tensor, axis)
    return _slices(trace, tensor, axis)


def _slices(trace: Trace, tensor: Tensor, axis: int) -> Groups | None:
    labels = trace.followed(tensor)
    if labels is None or axis not in places_of(labels):
        return None
    groups = trace.couplings.slices(labels, axis, tensor.shape[axis])
    if groups is None:  # nothing can be told apart here
        groups = np.broadcast_to(trace.couplings.pin(trace.couplings.new(1)), tensor.shape[axis])
        trace.couplings.pin(labels.flatten().numpy())
    return groups
