"""Rules for sums, means, lengths and softmax over axes, of channels too."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nasplatform.pruning.couplings import NOBODY, laid, places_of
from nasplatform.pruning.graph import Groups
from nasplatform.pruning.trace import Call, Labels, Trace


def reduction(trace: Trace, call: Call) -> Labels:
    """Sum up axes; over all channels, of those that are left."""
    given, labels = call.args[0], trace.followed(call.args[0])
    made = call.made if isinstance(call.made, Tensor) else call.made[0]
    axes = call.argument(2 if "norm" in call.name else 1, "dim")
    axes = [axes] if isinstance(axes, int) else axes
    if labels is None or not axes:
        return None
    gone = {axis % given.dim() for axis in axes}
    summed = gone.intersection(places_of(labels))
    if 0 in summed or len(summed) > 1 or (0 in gone and trace.of_parameters(given)):
        return None
    if summed:
        (axis,) = summed
        groups = trace.couplings.slices(labels, axis, given.shape[axis])
        left = _without(trace, given, labels, axis)
        if groups is None or left is None:
            return None
        trace.seen_whole(call, axis, groups)
        labels = left
    elif 1 in gone and trace.of_parameters(given):
        _see_columns(trace, call)
    if made.dim() < given.dim():
        labels = labels.reshape([n for axis, n in enumerate(labels.shape) if axis not in gone])
    return labels if made is call.made else [labels for _ in call.made]


def _without(trace: Trace, given: Tensor, labels: Tensor, axis: int) -> Tensor | None:
    """Return the labels of a sum over an axis."""
    sides: dict[int, Groups] = {}
    for other in places_of(labels):
        groups = trace.couplings.slices(labels, other, given.shape[other])
        if other != axis and groups is None:
            return None
        if other != axis and groups is not None:
            sides[other] = groups
    if not sides:
        return laid(np.array([NOBODY]), 0, given.dim())
    return trace.couplings.spread(sides, given.dim())


def _see_columns(trace: Trace, call: Call) -> None:
    """Note that a call sees all channels that a weight reads."""
    weight, owned = call.args[0], trace.owner(call.args[0])
    if owned is not None and weight.dim() > 1 and weight.shape[1] > 1:
        groups = trace.side(owned.name, 1)
        trace.seen_whole(call, 1, np.repeat(groups, weight.shape[1] // len(groups)))


def softmax(trace: Trace, call: Call) -> Labels:
    """Normalise along an axis; where it is that of the channels, they stay."""
    labels = trace.followed(call.args[0])
    axis = call.args[1] % call.args[0].dim()
    if labels is not None and axis in places_of(labels):
        reason = f"operation {call.name!r} in {call.place} is over all channels"
        groups = trace.couplings.slices(labels, axis, call.args[0].shape[axis])
        trace.couplings.pin(labels.flatten().numpy() if groups is None else groups, reason)
    return labels
