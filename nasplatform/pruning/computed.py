"""Weights that are computed in the pass: normalised, standardised, scaled, rounded.

Labels of what is computed of a weight run along its filters, axis 0. The channels that it reads,
axis 1, are known by its name for as long as every element is still made of one of the weight's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nasplatform.pruning.couplings import NOBODY, along
from nasplatform.pruning.rules import Rule
from nasplatform.pruning.trace import Call, Labels, Trace


def of_parameters_alone(trace: Trace, call: Call) -> bool:
    """Say whether a call computes with parameters alone, a weight among them; label the weights.

    The transpose that ``nn.Linear`` reads is none.
    """
    given = [tensor for tensor in call.tensors if tensor.dim()]
    alone = bool(given) and all(map(trace.of_parameters, given))
    if alone:
        for tensor in filter(trace.is_weight, given):
            if trace.followed(tensor) is None:
                trace.label_weight(tensor)
    return alone


def weight_norm(trace: Trace, call: Call) -> Labels:
    """Give every filter the length that a vector says: (out, ...), (out, 1, ...)."""
    direction, length = call.args[:2]
    labels = trace.followed(direction)
    groups = None if labels is None else along(labels, 0, len(direction))
    if labels is None or groups is None or call.argument(2, "dim", 0):
        return None
    if not trace.couple(length, 0, groups):
        return None
    return [labels for _ in call.made]


def product(trace: Trace, call: Call) -> Labels:
    """Multiply the rows of a weight, (out, n), by a vector (n,), as spectral normalisation does."""
    rows, vector = call.args
    owned, labels = trace.owner(rows), trace.followed(rows)
    if owned is None or labels is None or owned.turned:
        return None
    groups = trace.side(owned.name, 1)
    columns = np.repeat(groups, rows.shape[1] // len(groups))
    return labels[:, 0] if trace.couple(vector, 0, columns) else None


def inner(trace: Trace, call: Call) -> Labels:
    """Multiply two vectors of one number for each filter."""
    first, second = call.args[:2]
    labels = trace.followed(second)
    groups = None if labels is None else along(labels, 0, len(second))
    if groups is None or not trace.of_parameters(first) or not trace.couple(first, 0, groups):
        return None
    trace.seen_whole(call, 0, groups)
    return torch.tensor(NOBODY)


COMPUTED: dict[str, Rule] = {
    "_weight_norm_interface": weight_norm,
    "mv": product,
    **dict.fromkeys(("dot", "vdot"), inner),
}
"""Operations that weights alone go through."""


def zeroed(tensor: Any, axis: int, keep: Any) -> Any:
    """Return a tensor with zeros in the places of an axis that are not kept."""
    shape = [1] * tensor.dim()
    shape[axis] = -1
    return tensor * torch.from_numpy(keep).to(tensor).reshape(shape)
