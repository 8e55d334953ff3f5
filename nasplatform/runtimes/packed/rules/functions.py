"""Functions of single elements, and normalisation by running statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasplatform.runtimes.packed.following import Following, Rules, expect, expect_constants
from nasplatform.runtimes.packed.maps import Laid
from nasplatform.runtimes.packed.rules.arithmetic import by_channel, by_constant, constants, mapped
from nasplatform.runtimes.packed.steps import Map


def _rule(maps: Callable[[Following, Laid], tuple[Map, ...]]) -> Callable[..., None]:
    """Return the rule of a function that is always the same maps."""

    def rule(f: Following, made: Tensor, inputs: Any) -> None:
        laid = f.laid(inputs)
        f.know(made, mapped(f, laid, maps(f, laid)))

    return rule


def _batch_norm(
    f: Following, made: Any, inputs: Any, weight: Any, bias: Any, mean: Any, variance: Any,
    *rest: Any, **_: Any,
) -> None:  # fmt: skip
    epsilon = rest[-1]
    factor = 1 / torch.sqrt(variance + epsilon)
    factor = factor if weight is None else factor * weight
    offset = -mean * factor
    offset = offset if bias is None else offset + bias
    behind = (1,) * (inputs.ndim - 2)
    wide = (("mul", factor.view(-1, *behind)), ("add", offset.view(-1, *behind)))
    constants(f, made[0], inputs, *wide)


def _relu(f: Following, made: Tensor, inputs: Any) -> None:
    _clamp(f, made, inputs, 0.0)


def _clamp(f: Following, made: Tensor, inputs: Any, low: Any = None, high: Any = None) -> None:
    expect(not isinstance(low, Tensor) and not isinstance(high, Tensor), "a clamp to tensors")
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    values = torch.tensor(bounds, dtype=torch.float32)
    each = Map(kind="clamp", values=f.tensor(values))
    f.know(made, mapped(f, f.laid(inputs), (each,)))


def _hardtanh(f: Following, made: Tensor, inputs: Any, low: Any = -1.0, high: Any = 1.0) -> None:
    _clamp(f, made, inputs, low, high)


def _prelu(f: Following, made: Tensor, inputs: Any, slope: Any) -> None:
    expect_constants(f, slope)
    laid = f.laid(inputs)
    f.know(made, mapped(f, laid, (by_channel(f, laid, "prelu", slope),)))


def _leaky(f: Following, made: Tensor, inputs: Any, slope: Any = 0.01) -> None:
    _prelu(f, made, inputs, torch.tensor(float(slope)))


def _gelu(f: Following, made: Tensor, inputs: Any, approximate: str = "none") -> None:
    expect(approximate == "none", f"GELU by {approximate}")
    f.know(made, mapped(f, f.laid(inputs), (Map(kind="gelu"),)))


def _sigmoid(f: Following, laid: Laid) -> tuple[Map, ...]:
    return (Map(kind="sigmoid"),)


def _silu(f: Following, laid: Laid) -> tuple[Map, ...]:
    return (Map(kind="sigmoid"), Map(kind="times", other=laid.number))


def _tanh(f: Following, laid: Laid) -> tuple[Map, ...]:
    """2 sigmoid(2 x) - 1."""
    twice, less = by_constant(f, laid, "mul", 2.0), by_constant(f, laid, "add", -1.0)
    return (twice, Map(kind="sigmoid"), twice, less)


def _hard_sigmoid(f: Following, laid: Laid) -> tuple[Map, ...]:
    """relu6(x + 3) / 6."""
    bounds = f.tensor(torch.tensor((0.0, 6.0)))
    return (
        by_constant(f, laid, "add", 3.0),
        Map(kind="clamp", values=bounds),
        by_constant(f, laid, "mul", 1 / 6),
    )


def _hard_swish(f: Following, laid: Laid) -> tuple[Map, ...]:
    return (*_hard_sigmoid(f, laid), Map(kind="times", other=laid.number))


_ALWAYS_ALIKE = {
    "sigmoid": _sigmoid,
    "silu": _silu,
    "tanh": _tanh,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": _hard_swish,
}
RULES: Rules = {
    **{name: _rule(maps) for name, maps in _ALWAYS_ALIKE.items()},
    **{f"{name}_": _rule(maps) for name, maps in _ALWAYS_ALIKE.items()},
    **dict.fromkeys(("relu", "relu_"), _relu),
    **dict.fromkeys(("clamp", "clamp_", "clamp_min", "clamp_min_"), _clamp),
    **dict.fromkeys(("hardtanh", "hardtanh_"), _hardtanh),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), _leaky),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    "_prelu_kernel": _prelu,
    "gelu": _gelu,
}
