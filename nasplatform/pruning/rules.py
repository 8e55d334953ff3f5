"""How operations that compute no weighted sum hand groups on from tensor to tensor.

A rule gets the trace and a call, and returns the labels of what the call made (a list for
several), or None where it cannot tell; then what the call was given stays as it is. Rules may be
hopeful: what they say is tried out before a channel is removed (``tracing``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasplatform.pruning.couplings import along, axis_of, laid, places_of
from nasplatform.pruning.graph import Groups
from nasplatform.pruning.reductions import reduction, softmax
from nasplatform.pruning.trace import Call, Labels, Trace

Rule = Callable[[Trace, Call], Labels]


def copy(trace: Trace, call: Call) -> Labels:
    """Copy a tensor, also one of the parameters."""
    return trace.labels(call.args[0])


def same(trace: Trace, call: Call) -> Labels:
    """Keep every element in its place."""
    labels = trace.followed(call.args[0])
    made = call.made[0] if isinstance(call.made, (tuple, list)) else call.made
    return labels if made.shape == call.args[0].shape else None


def window(trace: Trace, call: Call) -> Labels:
    """Pool or resize maps, channel by channel, (B, C, ...)."""
    given, labels = call.args[0], trace.followed(call.args[0])
    if labels is None or not set(places_of(labels)) <= {1} or given.dim() < 3:
        return None
    return labels


def padding(trace: Trace, call: Call) -> Labels:
    """Pad on axes other than that of the channels, or make an empty map of that size."""
    given, labels = call.args[0], trace.followed(call.args[0])
    if labels is None or call.made.dim() != given.dim():
        return None
    kept = all(call.made.shape[axis] == given.shape[axis] for axis in places_of(labels))
    return labels if kept else None


def pointwise(trace: Trace, call: Call) -> Labels:
    """Combine tensors element by element, with broadcasting: what meets is one group."""
    made, widened = call.made, _widened(trace, call.made, call.tensors)
    known = [(tensor, trace.followed(tensor)) for tensor in call.tensors]
    if widened is not None and trace.followed(widened[0]) is None:
        alone, side = widened
        groups = trace.of_parameter(alone, side)
        if groups is not None:
            own_labels = laid(groups, side, alone.dim())
            known = [(t, own_labels if t is alone else on) for t, on in known]
    if all(labels is None for _, labels in known):  # of parameters alone
        known = [(tensor, trace.labels(tensor)) for tensor in call.tensors]
    axes = {
        axis + made.dim() - labels.dim()
        for _, labels in known
        if labels is not None and (axis := axis_of(labels)) is not None
    }
    if len(axes) > 1 or any(
        labels is not None and len(places_of(labels)) > 1 for _, labels in known
    ):
        return _by_axes(trace, made, known)
    if not axes:
        return _single(trace, made, known)
    (axis,) = axes
    wide: list[Groups] = []
    others: list[tuple[Tensor, int]] = []
    for tensor, labels in known:
        own = axis - made.dim() + tensor.dim()
        narrow = own < 0 or tensor.shape[own] == 1
        if labels is None and not narrow:
            others.append((tensor, own))
        elif labels is not None and narrow:  # spread over all channels
            trace.couplings.pin(labels.flatten().numpy())
        elif labels is not None and (groups := along(labels, own, made.shape[axis])) is not None:
            wide.append(groups)
    first = trace.couplings.meet(wide)
    coupled = [trace.couple(tensor, own, first) for tensor, own in others]
    return laid(first, axis, made.dim()) if all(coupled) else None


def _by_axes(trace: Trace, made: Tensor, known: list[tuple[Tensor, Tensor | None]]) -> Labels:
    """Combine tensors of which one lies along several axes: what meets on an axis is one group."""
    sides: dict[int, Groups] = {}
    for tensor, labels in known:
        if labels is None:
            continue
        for own in places_of(labels):
            found = trace.couplings.slices(labels, own, tensor.shape[own])
            if found is None:
                return None
            first = sides.setdefault(own - tensor.dim() + made.dim(), found)
            trace.couplings.unite(first, found)
    for tensor, labels in known:
        for axis, groups in sides.items():
            own = axis - made.dim() + tensor.dim()
            wide = own >= 0 and tensor.shape[own] > 1
            if wide and labels is None and not trace.couple(tensor, own, groups):
                return None
            if wide and labels is not None and own not in places_of(labels):
                return None
    return trace.couplings.spread(sides, made.dim())


def _widened(trace: Trace, made: Tensor, tensors: list[Tensor]) -> tuple[Tensor, int] | None:
    """Return the parameter that alone makes a result wide along an axis, and its axis there."""
    found = []
    for axis in range(made.dim()):
        wide = [
            (tensor, own)
            for tensor in tensors
            if (own := axis - made.dim() + tensor.dim()) >= 0 and tensor.shape[own] > 1
        ]
        if len(wide) == 1 and len(tensors) > 1 and trace.derived(wide[0][0]) is not None:
            found.append(wide[0])
    return found[0] if len(found) == 1 else None


def _single(trace: Trace, made: Tensor, known: list[tuple[Tensor, Tensor | None]]) -> Labels:
    """Combine maps of one channel each."""
    found = [(tensor, labels) for tensor, labels in known if labels is not None]
    if found and all(trace.couplings.stays(labels) for _, labels in found):
        return trace.couplings.spread({}, made.dim())
    if not found or any(tensor.shape != made.shape for tensor, _ in found):
        return None
    met = trace.couplings.meet([labels.flatten().numpy() for _, labels in found])
    return torch.from_numpy(met).reshape((1,) * made.dim())


def layout(trace: Trace, call: Call) -> Labels:
    """Move elements about: do the same with their labels."""
    given = call.args[0]
    labels = trace.labels(given)
    if labels is None:
        return None
    whole = trace.couplings.whole(labels, given.shape)
    made = call.func(whole, *call.args[1:], **call.kwargs)
    if isinstance(made, Tensor):
        return trace.couplings.compact(made)
    return [trace.couplings.compact(part) for part in made]


def view(trace: Trace, call: Call) -> Labels:
    """Take elements in the same order in another shape."""
    labels = trace.labels(call.args[0])
    if labels is None:
        return None
    whole = trace.couplings.whole(labels, call.args[0].shape)
    made = trace.couplings.compact(whole.reshape(call.made.shape))
    for tensor, found in ((call.args[0], labels), (call.made, made)):
        _note_numbers(trace, tensor, found)
    return made


def _note_numbers(trace: Trace, tensor: Tensor, labels: Tensor) -> None:
    axes = places_of(labels)
    if len(axes) < 2 or not trace.inside:
        return
    sides = [trace.couplings.slices(labels, axis, tensor.shape[axis]) for axis in axes]
    known = [side for side in sides if side is not None]
    if len(known) == len(sides):
        trace.arrangements.note(*trace.inside[-1], known, labels.flatten().numpy())


def slicing(trace: Trace, call: Call) -> Labels:
    """Take a stretch of an axis. One of the channels stands for itself and those beside it."""
    labels = trace.labels(call.args[0])
    if labels is None:
        return None
    whole, part = call.args[0], call.made
    axis = call.argument(1, "dim", 0) % whole.dim()
    if axis not in places_of(labels) or part.shape == whole.shape:
        return labels
    groups = along(labels, axis, whole.shape[axis])
    start, step = call.argument(2, "start") or 0, call.argument(4, "step", 1)
    found = np.arange(whole.shape[axis])[start::step][: part.shape[axis]]
    if groups is None:
        return None
    if not len(found):
        return trace.couplings.spread({}, part.dim())
    if not trace.slicers:
        shares, rest = divmod(len(groups), len(found))
        if rest or step != 1 or len(found) == 1 or int(found[0]) % len(found):
            return None  # a number in the code says how many, so they must stay
        trace.couplings.unite_columns(groups, shares)
    return laid(groups[found], axis, part.dim())


def splitting(trace: Trace, call: Call) -> Labels:
    """Cut an axis into stretches; those of the channels must stay equally long."""
    labels = trace.labels(call.args[0])
    if labels is None:
        return None
    given, parts = call.args[0], list(call.made)
    axis, dims = call.argument(2, "dim", 0) % given.dim(), given.dim()
    if axis not in places_of(labels):
        return [labels for _ in parts]
    lengths = {part.shape[axis] for part in parts}
    groups = along(labels, axis, given.shape[axis])
    if groups is None or len(lengths) > 1:
        return None
    rows = groups.reshape(len(parts), -1)
    trace.couplings.unite_columns(groups, len(parts))
    return [laid(row, axis, dims) for row in rows]


def gating(trace: Trace, call: Call) -> Labels:
    """Multiply one half of an axis by a function of the other (GLU)."""
    labels = trace.followed(call.args[0])
    given = call.args[0]
    axis = call.argument(1, "dim", -1) % given.dim()
    groups = None if labels is None else along(labels, axis, given.shape[axis])
    if groups is None:
        return labels if labels is not None and axis not in places_of(labels) else None
    return laid(trace.couplings.unite_columns(groups, 2), axis, given.dim())


def concatenation(trace: Trace, call: Call) -> Labels:
    """Put tensors side by side on an axis."""
    tensors = call.args[0]
    axis = call.argument(1, "dim", 0) % call.made.dim()
    known = [trace.followed(tensor) for tensor in tensors]
    places = {place for labels in known if labels is not None for place in places_of(labels)}
    if not places and all(on is not None and trace.couplings.stays(on) for on in known):
        return trace.couplings.spread({}, call.made.dim())
    if places <= {axis} and axis:
        whole = [_part(trace, tensor, axis) for tensor in tensors]
        return laid(np.concatenate(whole), axis, call.made.dim())
    return _together(trace, call, known, places)


def stacking(trace: Trace, call: Call) -> Labels:
    """Put tensors side by side on a new axis."""
    known = [trace.followed(tensor) for tensor in call.args[0]]
    axis = call.argument(1, "dim", 0) % call.made.dim()
    places = {place for labels in known if labels is not None for place in places_of(labels)}
    labels = _together(trace, call, known, places)
    return labels.unsqueeze(axis) if isinstance(labels, Tensor) else None


def _part(trace: Trace, tensor: Tensor, axis: int) -> Any:
    labels = trace.followed(tensor)
    length = tensor.shape[axis]
    if labels is None:
        return trace.couplings.pin(trace.couplings.new(length))
    return along(labels, axis, length)


def _together(trace: Trace, call: Call, known: list[Tensor | None], places: set[Any]) -> Labels:
    """Unite tensors that lie beside one another on an axis other than their channels'."""
    sides: dict[int, Groups] = {}
    for place in places:
        for tensor, labels in sorted(
            zip(call.args[0], known, strict=True), key=lambda pair: pair[1] is None
        ):
            if labels is None:
                if not trace.couple(tensor, place, sides[place]):
                    return None
                continue
            found = _on(trace, labels, place, tensor.shape[place])
            first = None if found is None else sides.setdefault(place, found)
            if first is None or found is None or len(found) != len(first):
                return None
            trace.couplings.unite(first, found)
    return trace.couplings.spread(sides, call.args[0][0].dim()) if sides else None


def _on(trace: Trace, labels: Tensor, axis: int, length: int) -> Groups | None:
    alone = along(labels, axis, length)
    return trace.couplings.slices(labels, axis, length) if alone is None else alone


def unfolding(trace: Trace, call: Call) -> Labels:
    """Put the places of a window side by side, channel by channel: (B, C, h, w) -> (B, C k, n)."""
    given, labels = call.args[0], trace.followed(call.args[0])
    groups = None if labels is None or given.dim() != 4 else along(labels, 1, given.shape[1])
    if groups is None:
        return None
    return laid(np.repeat(groups, call.made.shape[1] // len(groups)), 1, 3)


def pixel_shuffle(trace: Trace, call: Call) -> Labels:
    """Spread r x r channels over one that is larger: (B, C r r, h, w) -> (B, C, h r, w r)."""
    given, labels = call.args[0], trace.followed(call.args[0])
    groups = None if labels is None else along(labels, 1, given.shape[1])
    if groups is None or given.dim() != 4:
        return None
    columns = groups.reshape(-1, call.args[1] ** 2).T
    return laid(trace.couplings.unite_columns(columns, call.args[1] ** 2), 1, 4)


def channel_shuffle(trace: Trace, call: Call) -> Labels:
    """Take channels from several groups in turn (ShuffleNet)."""
    given, labels = call.args[0], trace.followed(call.args[0])
    groups = None if labels is None else along(labels, 1, given.shape[1])
    if groups is None:
        return None
    first = trace.couplings.unite_columns(groups, call.args[1])
    return laid(np.repeat(first, call.args[1]), 1, given.dim())


_BY_RULE: dict[Rule, tuple[str, ...]] = {
    copy: ("clone", "detach", "alias", "_to_copy"),
    same: (
        *("contiguous", "zeros_like", "ones_like", "empty_like", "as_strided_"),
        *("full_like", "zero_", "native_dropout", "hardswish", "hardswish_", "mish_", "bernoulli"),
        *("log_sigmoid_forward", "lift_fresh", "rrelu_with_noise", "rrelu_with_noise_"),
    ),
    window: (
        *("avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_linear1d"),
        *("upsample_bicubic2d", "_upsample_nearest_exact2d", "upsample_nearest3d"),
    ),
    padding: (
        *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d"),
        *("replication_pad2d", "replication_pad3d", "reflection_pad3d"),
        *("new_empty", "new_zeros", "new_ones", "new_full"),
    ),
    pointwise: ("copy_", "_prelu_kernel", "rsub", "prelu"),
    view: ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
    layout: (
        *("permute", "transpose", "expand", "repeat", "select", "unbind", "flip", "roll", "index"),
        *("index_select", "movedim", "t"),
    ),
    slicing: ("slice",),
    splitting: ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk"),
    gating: ("glu",),
    concatenation: ("cat",),
    stacking: ("stack",),
    reduction: (
        *("mean", "sum", "amax", "amin", "prod", "std", "var", "var_mean", "std_mean"),
        "linalg_vector_norm",
    ),
    softmax: ("_softmax", "_log_softmax", "_safe_softmax"),
    unfolding: ("im2col",),
    pixel_shuffle: ("pixel_shuffle",),
    channel_shuffle: ("channel_shuffle", "native_channel_shuffle"),
}
_BY_NAME = {name: rule for rule, names in _BY_RULE.items() for name in names}


def rule_of(func: Any) -> Rule | None:
    """Return the rule for an operation of torch; None pins what it is given."""
    found = _BY_NAME.get(func.overloadpacket.__name__)
    return found or (pointwise if torch.Tag.pointwise in func.tags else None)
