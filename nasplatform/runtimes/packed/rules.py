"""The steps of each operation of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasplatform.runtimes.packed.following import (
    BATCH,
    Following,
    Rules,
    expect,
    expect_constants,
    source_of,
)
from nasplatform.runtimes.packed.program import Map, Step, Window


def _convolution(
    f: Following, made: Tensor, inputs: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int,
) -> None:  # fmt: skip
    expect(not transposed and inputs.ndim == 4, "a transposed or not two-dimensional convolution")
    expect_constants(f, weight, bias)
    window = _pair_window(weight.shape[2:], stride, padding, dilation)
    _float_conv(f, made, inputs, weight, bias, window, groups)


def _float_conv(
    f: Following, made: Tensor, inputs: Any, weight: Any, bias: Any, window: Window, groups: int
) -> None:
    f.add(
        made,
        Step(
            op="conv",
            source=source_of(f, inputs),
            window=window,
            weight=f.tensor(weight.permute(0, 2, 3, 1)),
            inputs=weight.shape[1],
            groups=groups,
            outputs=weight.shape[0],
            maps=() if bias is None else (Map(kind="add", values=f.tensor(bias)),),
        ),
    )


def _addmm(f: Following, made: Tensor, bias: Any, inputs: Any, weight: Any, **scales: Any) -> None:
    expect(not scales and bias.ndim == 1, "a scaled product of matrices")
    expect_constants(f, weight, bias)
    _float_conv(f, made, inputs, weight.T[:, :, None, None], bias, Window(), 1)


def _mm(f: Following, made: Tensor, inputs: Any, weight: Any) -> None:
    expect_constants(f, weight)
    _float_conv(f, made, inputs, weight.T[:, :, None, None], None, Window(), 1)


def _batch_norm(
    f: Following, made: Any, inputs: Any, weight: Any, bias: Any, mean: Any, variance: Any,
    *rest: Any, **_: Any,
) -> None:  # fmt: skip
    epsilon = rest[-1]
    factor = 1 / torch.sqrt(variance + epsilon)
    factor = factor if weight is None else factor * weight
    offset = -mean * factor
    offset = offset if bias is None else offset + bias
    _by_channel(f, made[0], inputs, ("mul", factor), ("add", offset))


def _by_channel(f: Following, made: Tensor, inputs: Any, *operations: tuple[str, Tensor]) -> None:
    maps = tuple(Map(kind=kind, values=f.tensor(values)) for kind, values in operations)
    f.add(made, Step(op="map", source=source_of(f, inputs), maps=maps))


def _relu(f: Following, made: Tensor, inputs: Any) -> None:
    _clamp(f, made, inputs, 0.0)


def _clamp(f: Following, made: Tensor, inputs: Any, low: Any = None, high: Any = None) -> None:
    expect(not isinstance(low, Tensor) and not isinstance(high, Tensor), "a clamp to tensors")
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    values = torch.tensor(bounds, dtype=torch.float32)
    _by_channel(f, made, inputs, ("clamp", values))


def _hardtanh(f: Following, made: Tensor, inputs: Any, low: Any = -1.0, high: Any = 1.0) -> None:
    _clamp(f, made, inputs, low, high)


def _prelu(f: Following, made: Tensor, inputs: Any, slope: Any) -> None:
    expect_constants(f, slope)
    _by_channel(f, made, inputs, ("prelu", _channels(slope, inputs)))


def _leaky(f: Following, made: Tensor, inputs: Any, slope: Any = 0.01) -> None:
    _by_channel(f, made, inputs, ("prelu", _channels(torch.tensor(float(slope)), inputs)))


def _sum(f: Following, made: Tensor, one: Any, other: Any, alpha: Any = 1) -> None:
    _arithmetic(f, made, one, other, alpha)


def _difference(f: Following, made: Tensor, one: Any, other: Any, alpha: Any = 1) -> None:
    expect(f.number(one) is not None and f.number(other) is None, "a difference of two maps")
    _arithmetic(f, made, one, other, -alpha)


def _arithmetic(f: Following, made: Tensor, one: Any, other: Any, alpha: Any) -> None:
    first, second = f.number(one), f.number(other)
    if first is not None and second is not None:
        expect(alpha == 1 and one.shape == other.shape, "a scaled or broadcast sum of maps")
        f.add(made, Step(op="map", source=first, maps=(Map(kind="plus", other=second),)))
        return
    varying, constant = (one, other) if first is not None else (other, one)
    expect(first is not None or alpha == 1, "a scaled sum")
    values = torch.as_tensor(constant, dtype=torch.float32) * alpha
    if not values.any():  # sums of searched cells begin with zeros
        f.known(made, source_of(f, varying))
        return
    _by_channel(f, made, varying, ("add", _channels(values, varying)))


def _product(f: Following, made: Tensor, one: Any, other: Any) -> None:
    first, second = f.number(one), f.number(other)
    if first is not None and second is not None:
        _product_of_maps(f, made, one, other)
        return
    varying, constant = (one, other) if first is not None else (other, one)
    values = torch.as_tensor(constant, dtype=torch.float32)
    _by_channel(f, made, varying, ("mul", _channels(values, varying)))


def _product_of_maps(f: Following, made: Tensor, one: Any, other: Any) -> None:
    if one.shape != made.shape:
        one, other = other, one
    kind = "times"
    if one.shape != other.shape:
        expect(other.shape == (*one.shape[:2], 1, 1), "a product of maps of such shapes")
        kind = "gate"
    each = Map(kind=kind, other=source_of(f, other))
    f.add(made, Step(op="map", source=source_of(f, one), maps=(each,)))


def _quotient(f: Following, made: Tensor, one: Any, other: Any) -> None:
    expect(f.number(other) is None, "a quotient by a map")
    _product(f, made, one, 1 / torch.as_tensor(other, dtype=torch.float32))


def _sigmoid(f: Following, made: Tensor, inputs: Any) -> None:
    f.add(made, Step(op="map", source=source_of(f, inputs), maps=(Map(kind="sigmoid"),)))


def _silu(f: Following, made: Tensor, inputs: Any) -> None:
    source = source_of(f, inputs)
    maps = (Map(kind="sigmoid"), Map(kind="times", other=source))
    f.add(made, Step(op="map", source=source, maps=maps))


def _tanh(f: Following, made: Tensor, inputs: Any) -> None:
    """2 sigmoid(2 x) - 1."""
    two, less = (_constant(f, inputs, value) for value in (2.0, -1.0))
    before, after = Map(kind="mul", values=two), Map(kind="add", values=less)
    maps = (before, Map(kind="sigmoid"), before, after)
    f.add(made, Step(op="map", source=source_of(f, inputs), maps=maps))


def _gelu(f: Following, made: Tensor, inputs: Any, approximate: str = "none") -> None:
    expect(approximate == "none", f"GELU by {approximate}")
    f.add(made, Step(op="map", source=source_of(f, inputs), maps=(Map(kind="gelu"),)))


def _hard_sigmoid(f: Following, made: Tensor, inputs: Any) -> None:
    f.add(made, Step(op="map", source=source_of(f, inputs), maps=_hard(f, inputs)))


def _hard_swish(f: Following, made: Tensor, inputs: Any) -> None:
    source = source_of(f, inputs)
    maps = (*_hard(f, inputs), Map(kind="times", other=source))
    f.add(made, Step(op="map", source=source, maps=maps))


def _hard(f: Following, inputs: Any) -> tuple[Map, ...]:
    """relu6(x + 3) / 6."""
    bounds = f.tensor(torch.tensor((0.0, 6.0)))
    three, sixth = _constant(f, inputs, 3.0), _constant(f, inputs, 1 / 6)
    return (
        Map(kind="add", values=three),
        Map(kind="clamp", values=bounds),
        Map(kind="mul", values=sixth),
    )


def _constant(f: Following, inputs: Any, value: float) -> str:
    return f.tensor(_channels(torch.tensor(value), inputs))


def _channels(values: Tensor, inputs: Tensor) -> Tensor:
    """Return a constant as one number for each channel; refuse what differs elsewhere."""
    wide = values.reshape((1,) * (inputs.ndim - values.ndim) + tuple(values.shape))
    one = wide[tuple(slice(None) if axis == 1 else slice(1) for axis in range(wide.ndim))]
    expect(bool((wide == one).all()), "a constant that differs within a map")
    return one.flatten().expand(inputs.shape[1]).contiguous()


def _max_pool(
    f: Following, made: Any, inputs: Any, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> None:  # fmt: skip
    window = _covering(_pair_window(kernel, stride or kernel, padding, dilation), inputs, made[0])
    f.add(made[0], Step(op="max_pool", source=source_of(f, inputs), window=window))


def _avg_pool(
    f: Following, made: Tensor, inputs: Any, kernel: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor: Any = None,
) -> None:  # fmt: skip
    expect(divisor is None, "a pooling with a divisor")
    plain = _pair_window(kernel, stride or kernel, padding, 1)
    window, padded = _covering(plain, inputs, made), count_include_pad
    expect(window == plain or not padded, "a pooling with ceil_mode that counts its padding")
    f.add(made, Step(op="avg_pool", source=source_of(f, inputs), window=window, padded=padded))


def _covering(window: Window, inputs: Any, made: Tensor) -> Window:
    """Pad a window below and to the right until it makes as much as ``ceil_mode`` did."""
    room = window.taken((*inputs.shape[2:], inputs.shape[1]))
    top, left, bottom, right = window.padding
    over = [s * (m - r) for s, m, r in zip(window.stride, made.shape[2:], room, strict=True)]
    rest = [
        (size + 2 * p - d * (k - 1) - 1) % s
        for size, p, d, k, s in zip(
            inputs.shape[2:],
            (top, left),
            window.dilation,
            window.kernel,
            window.stride,
            strict=True,
        )
    ]
    more = [max(o - r, 0) for o, r in zip(over, rest, strict=True)]
    padding = (top, left, bottom + more[0], right + more[1])
    return window.model_copy(update={"padding": padding})


def _mean(f: Following, made: Tensor, inputs: Any, axes: Any, keep: bool = False, **_: Any) -> None:
    expect(inputs.ndim == 4 and {a % 4 for a in axes} == {2, 3}, "a mean over other axes than 2, 3")
    expect(inputs.shape[2] * inputs.shape[3] > 0, "a mean of nothing")
    window = Window(kernel=tuple(inputs.shape[2:]))
    f.add(made, Step(op="avg_pool", source=source_of(f, inputs), window=window))


def _adaptive(f: Following, made: Tensor, inputs: Any, size: Any) -> None:
    both = list(zip(inputs.shape[2:], size, strict=True))
    expect(all(have % wanted == 0 for have, wanted in both), "an adaptive pooling of uneven parts")
    kernel = tuple(have // wanted for have, wanted in both)
    step = Step(
        op="avg_pool", source=source_of(f, inputs), window=Window(kernel=kernel, stride=kernel)
    )
    f.add(made, step)


def _view(f: Following, made: Tensor, inputs: Any, *_: Any, **__: Any) -> None:
    if tuple(made.shape) == tuple(inputs.shape):
        f.known(made, source_of(f, inputs))
        return
    flat = made.ndim == 2 and made.shape[0] == BATCH
    same = made.ndim == 4 and made.shape[2:] == (1, 1) and made.shape[:2] == inputs.shape[:2]
    expect(flat or (same and inputs.ndim == 2), f"a view of {tuple(inputs.shape)} as "
            f"{tuple(made.shape)}")  # fmt: skip
    if inputs.ndim == 4 and tuple(inputs.shape[2:]) != (1, 1):
        f.add(made, Step(op="flatten", source=source_of(f, inputs)))
    else:
        f.known(made, source_of(f, inputs))


def _flat_axis(f: Following, made: Tensor, inputs: Any, *_: Any) -> None:
    """An axis of 1 is added or taken away behind the channels."""
    expect(tuple(made.shape[:2]) == tuple(inputs.shape[:2]), "axes moved about")
    expect(made.ndim in (2, 3, 4), "more than four axes")
    f.known(made, source_of(f, inputs))


def _same(f: Following, made: Tensor, inputs: Any, *_: Any, **__: Any) -> None:
    expect(made.dtype == inputs.dtype, f"maps of {made.dtype}")
    f.known(made, source_of(f, inputs))


def _cat(f: Following, made: Tensor, inputs: Any, axis: int = 0) -> None:
    expect(axis % made.ndim == 1, "a concatenation along another axis than channels")
    parts, there = [], 0
    for each in inputs:
        if each.numel():
            parts.append((source_of(f, each), 0, each.shape[1], there))
            there += each.shape[1]
    f.add(made, Step(op="copy", parts=tuple(parts), outputs=there))


def _slice(
    f: Following, made: Tensor, inputs: Any, axis: int = 0, start: Any = None, end: Any = None,
    by: int = 1,
) -> None:  # fmt: skip
    axis, source = axis % inputs.ndim, source_of(f, inputs)
    if not made.numel():  # follows from no image
        return
    if tuple(made.shape) == tuple(inputs.shape):
        f.known(made, source)
        return
    first = min(max((start or 0) + (inputs.shape[axis] if (start or 0) < 0 else 0), 0), 2**14)
    if axis == 1:
        expect(by == 1, "every other channel")
        part = (source, first, made.shape[1], 0)
        f.add(made, Step(op="copy", parts=(part,), outputs=made.shape[1]))
        return
    whole = -(-(inputs.shape[axis] - first) // by)
    expect(axis in (2, 3) and made.shape[axis] == whole, "a map cut at its end")
    row = axis == 2
    window = Window(
        stride=(by, 1) if row else (1, by), padding=(first, 0, 0, 0) if row else (0, first, 0, 0)
    )
    part = (source, 0, inputs.shape[1], 0)
    f.add(made, Step(op="copy", parts=(part,), outputs=inputs.shape[1], window=window))


def _split(f: Following, made: Any, inputs: Any, sizes: Any, axis: int = 0) -> None:
    expect(axis % inputs.ndim == 1, "a split along another axis than channels")
    first = 0
    for each in made:
        expect(each.numel() > 0, "an empty part of a map")
        part = (source_of(f, inputs), first, each.shape[1], 0)
        f.add(each, Step(op="copy", parts=(part,), outputs=each.shape[1]))
        first += each.shape[1]


def _pad(f: Following, made: Tensor, inputs: Any, edges: Any, value: Any = 0) -> None:
    spatial, channels, rest = edges[:4], edges[4:6], edges[6:]
    expect(value == 0 and not any((*spatial, *rest)), "padding with something else than channels")
    before = channels[0] if channels else 0
    part = (source_of(f, inputs), 0, inputs.shape[1], before)
    f.add(made, Step(op="copy", parts=(part,), outputs=made.shape[1]))


def _zeros(f: Following, made: Tensor, *_: Any, **__: Any) -> None:
    """What only has the shape of a map does not depend on the images."""


def _pair_window(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    kernel, stride, padding, dilation = map(_pair, (kernel, stride, padding, dilation))
    return Window(kernel=kernel, stride=stride, padding=padding * 2, dilation=dilation)


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, list | tuple | torch.Size) else (value,)
    return (values[0], values[-1])


RULES: Rules = {
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution"), _convolution),
    **dict.fromkeys(("addmm",), _addmm),
    **dict.fromkeys(("mm",), _mm),
    **dict.fromkeys(("relu", "relu_"), _relu),
    **dict.fromkeys(("clamp", "clamp_"), _clamp),
    **dict.fromkeys(("clamp_min", "clamp_min_"), _clamp),
    **dict.fromkeys(("hardtanh", "hardtanh_"), _hardtanh),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), _leaky),
    **dict.fromkeys(("add", "add_"), _sum),
    **dict.fromkeys(("sub", "sub_"), _difference),
    **dict.fromkeys(("mul", "mul_"), _product),
    **dict.fromkeys(("div", "div_"), _quotient),
    **dict.fromkeys(("sigmoid", "sigmoid_"), _sigmoid),
    **dict.fromkeys(("silu", "silu_"), _silu),
    **dict.fromkeys(("tanh", "tanh_"), _tanh),
    **dict.fromkeys(("hardsigmoid", "hardsigmoid_"), _hard_sigmoid),
    **dict.fromkeys(("hardswish", "hardswish_"), _hard_swish),
    "gelu": _gelu,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("squeeze", "unsqueeze"), _flat_axis),
    **dict.fromkeys(("detach", "alias", "clone", "contiguous", "to", "_to_copy"), _same),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "empty_like"), _zeros),
    **dict.fromkeys(("split_with_sizes", "split"), _split),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    "_prelu_kernel": _prelu,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "_adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    "cat": _cat,
    "slice": _slice,
    "constant_pad_nd": _pad,
}
