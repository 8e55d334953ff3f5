"""Rules for what has weights: convolutions, linear layers and normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.pruning.contractions import contraction
from nasplatform.pruning.couplings import along, laid, places_of
from nasplatform.pruning.graph import Groups, Layer
from nasplatform.pruning.rules import Rule
from nasplatform.pruning.trace import BATCH, Call, Labels, Trace

VECTORS = ("weight", "bias", "running_mean", "running_var")
"""Names under which a normalisation holds one number per channel."""
_PLAIN = (nn.GroupNorm, nn.LayerNorm)
"""Normalisations whose widths must be cut even where they have no parameters."""


def convolution(trace: Trace, call: Call) -> Labels:
    """Make new groups, or with one filter per channel the groups of what is read."""
    given, weight, bias, *_, transposed, _, groups = call.args
    name = trace.holder(weight, "weight")
    depthwise = groups > 1 and groups == given.shape[1]
    if given.dim() < 3 or (name is None and not (depthwise and not transposed)):
        return None
    if transposed and groups > 1:
        return None
    inputs = trace.read(given, 1, call.place)
    outputs = trace.couplings.new(call.made.shape[1])
    multiplier = len(outputs) // groups
    if depthwise and multiplier > 1 and trace.couplings.stays(torch.from_numpy(inputs)):
        trace.couplings.unite_columns(outputs, groups)  # the image's colours stay, not all filters
    elif depthwise:
        trace.couplings.unite(outputs, np.repeat(inputs, multiplier))
    elif groups > 1:  # all groups of the convolution must stay equally wide
        for channels in (inputs, outputs):
            trace.couplings.unite_columns(channels, groups)
    trace.couple(weight, int(transposed), outputs)
    if not depthwise:
        trace.couple(weight, int(not transposed), inputs[: len(inputs) // groups])
    if bias is not None and not trace.couple(bias, 0, outputs):
        trace.couplings.pin(outputs, f"{call.place} has a bias that is computed")
    if name is None:
        return laid(outputs, 1, call.made.dim())
    side = given if transposed else call.made
    layer = Layer(
        name,
        inputs,
        outputs,
        groups,
        window=int(weight[0, 0].numel()),
        area=int(side[0, 0].numel()),
        vectors=trace.fresh(bias),
        tied=not trace.fresh(weight),
        vector_names=trace.explain(name, weight=weight, bias=bias)[1:],
        transposed=transposed,
        weight_name=trace.weight_name(weight),
    )
    _see_inputs(trace, call, weight, inputs)
    return laid(trace.layer(layer, call.made), 1, call.made.dim())


def linear(trace: Trace, call: Call) -> Labels:
    """Make new groups on the last axis, (rows, in) -> (rows, out)."""
    bias = call.args[0] if call.name == "addmm" else None
    given, weight = call.args[-2:]
    owned = trace.owner(weight)
    name = trace.holder(weight, "weight")
    if given.dim() == 2 and (by_rows := _by_rows(trace, call)) is not None:
        return by_rows
    if name is None or owned is None or not owned.turned or given.dim() != 2:
        return contraction(trace, call) if call.name == "mm" else None
    inputs = trace.read(given, 1, call.place)
    outputs = trace.couplings.new(weight.shape[1])
    trace.couple(weight, 1, outputs)
    trace.couple(weight, 0, inputs)
    if bias is not None and not trace.couple(bias, 0, outputs):
        trace.couplings.pin(outputs, f"{call.place} has a bias that is computed")
    layer = Layer(
        name,
        inputs,
        outputs,
        area=max(1, len(given) // BATCH),
        vectors=trace.fresh(bias),
        tied=not trace.fresh(weight),
        vector_names=trace.explain(name, weight=weight, bias=bias)[1:],
        weight_name=trace.weight_name(weight),
    )
    _see_inputs(trace, call, weight, inputs)
    return laid(trace.layer(layer, call.made), 1, 2)


def _see_inputs(trace: Trace, call: Call, weight: Tensor, inputs: Groups) -> None:
    """Note that what reads a removed channel need not be 0 in a weight that is computed."""
    owned = trace.owner(weight)
    if owned is not None and owned.computed:
        trace.seen_whole(call, 1, inputs)


def _by_rows(trace: Trace, call: Call) -> Labels:
    """Follow channels that lie on the rows of a linear layer, which mixes something else."""
    given, weight = call.args[-2:]
    labels = trace.followed(given)
    if labels is None or places_of(labels) != [0] or not trace.of_parameters(weight):
        return None
    trace.freeze(call.tensors, f"{call.place} mixes places, not channels")
    return labels


def batch_norm(trace: Trace, call: Call) -> Labels:
    """Scale each channel on its own, (B, C, ...)."""
    given, *vectors = call.args
    groups = _read(trace, given, 1)
    return None if groups is None else _normalised(trace, call, groups, vectors[:4], 1)


def group_norm(trace: Trace, call: Call) -> Labels:
    """Scale groups of channels, which must stay equally wide, (B, C, ...)."""
    given, weight, bias, *_, count, _ = call.args
    groups = _read(trace, given, 1)
    if groups is None:
        return None
    if 1 < count < len(groups):
        trace.couplings.unite_columns(groups, count)
    trace.seen_whole(call, 1, groups)
    return _normalised(trace, call, groups, [weight, bias], 1, count)


def layer_norm(trace: Trace, call: Call) -> Labels:
    """Scale all channels together, (..., C)."""
    given, shape, weight, bias, _ = call.args
    axis, labels = given.dim() - 1, trace.followed(given)
    if labels is None or len(shape) > 1:
        return None
    several = len(places_of(labels)) > 1
    groups = trace.couplings.slices(labels, axis, shape[0]) if several else None
    groups = groups if several else along(labels, axis, shape[0])
    if groups is None:
        return None
    trace.seen_whole(call, axis, groups)
    made = _normalised(trace, call, groups, [weight, bias], axis)
    return labels if several and made is not None else made


def _read(trace: Trace, given: Tensor, axis: int) -> Groups | None:
    labels = trace.followed(given)
    return None if labels is None else along(labels, axis, given.shape[axis])


def _normalised(
    trace: Trace, call: Call, groups: Groups, vectors: list[Any], axis: int, count: int = 1
) -> Labels:
    given = call.args[0]
    present = [vector for vector in vectors if vector is not None]
    coupled = [trace.couple(vector, 0, groups) for vector in present]  # every one of them
    if not all(coupled):
        return None
    name = next(
        (
            holder
            for vector, attribute in zip(vectors, VECTORS, strict=False)
            if (holder := trace.holder(vector, attribute)) is not None
        ),
        trace.inside[-1][0] if trace.inside and isinstance(trace.module, _PLAIN) else None,
    )
    if name is not None:
        size = trace.fresh(*vectors[:2])
        names = trace.explain(name, **dict(zip(VECTORS, vectors, strict=False)))
        maker = trace.maker(given)
        if maker is not None:
            trace.norms[maker] = name
        layer = Layer(name, groups, groups, count, vectors=size, vector_names=names)
        groups = trace.layer(layer, call.made[0])
    return laid(groups, axis, given.dim())


WEIGHTED: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "mkldnn_convolution", "cudnn_convolution"), convolution),
    **dict.fromkeys(("addmm", "mm"), linear),
    **dict.fromkeys(
        (
            *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "batch_norm"),
            *("_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
        ),
        batch_norm,
    ),
    "native_group_norm": group_norm,
    "native_layer_norm": layer_norm,
    "bmm": contraction,
}
