"""What only moves numbers about: its places are found by the operation itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasplatform.runtimes.packed.following import Following, Rules, expect
from nasplatform.runtimes.packed.maps import Laid, Order


def _moved(f: Following, made: Any, *args: Any, **kwargs: Any) -> None:
    found = f.moved(args, kwargs)
    if isinstance(made, Tensor):
        f.know(made, found)
        return
    for each, places in zip(made, found, strict=True):
        f.know(each, places)


def _view(f: Following, made: Tensor, inputs: Any, *_: Any, **__: Any) -> None:
    known, shape = f.known(inputs), tuple(made.shape)
    if isinstance(known, Laid) and known.order is Order.CHANNELS_LAST:
        f.know(made, Laid(shape, known.number, known.order))
    else:
        f.know(made, f.places(inputs).reshape(shape))


def _same(f: Following, made: Tensor, inputs: Any, *_: Any, **__: Any) -> None:
    expect(made.dtype == inputs.dtype, f"maps of {made.dtype}")
    f.know(made, f.known(inputs))


def _strided(f: Following, made: Tensor, inputs: Any, *_: Any) -> None:
    """What torch does to means of maps with channels last: only the strides of axes of 1 change."""
    expect(made.shape == inputs.shape and set(made.shape[2:]) <= {1}, "other strides")
    f.know(made, f.known(inputs))


def _joined(f: Following, made: Tensor, inputs: Any, axis: int = 0) -> None:
    """Concatenated or stacked, also with constants such as class tokens."""
    parts = [f.places(each) if f.follows(each) else _of_constant(f, each) for each in inputs]
    f.know(made, f.moved((parts, axis), {}))


def _of_constant(f: Following, values: Tensor) -> Tensor:
    """Return places of a constant, the same for all images where it has an axis of them."""
    if not values.any():
        return torch.zeros(values.shape, dtype=torch.float64)
    each = values
    if len(values) == f.maps.images and (values == values[:1]).all():
        each = values[:1]
    number = f.constant(each, (1, 1, each.numel()))
    return f.maps.of_fixed(number).view(each.shape).expand(values.shape)


def _pad(f: Following, made: Tensor, inputs: Any, edges: Any, value: Any = 0) -> None:
    expect(value == 0, f"padding with {value}")
    f.know(made, f.moved((f.places(inputs), edges, 0), {}))


def _nothing(f: Following, made: Tensor, *_: Any, **__: Any) -> None:
    """What only has the shape of a map does not depend on the images."""


RULES: Rules = {
    **dict.fromkeys(
        (
            *("permute", "transpose", "t", "slice", "select", "unbind", "split", "expand", "flip"),
            *("split_with_sizes", "squeeze", "unsqueeze", "roll", "index", "index_select"),
            *("im2col", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat"),
        ),
        _moved,
    ),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("detach", "alias", "clone", "contiguous", "to", "_to_copy"), _same),
    **dict.fromkeys(("cat", "stack"), _joined),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "empty_like"), _nothing),
    "constant_pad_nd": _pad,
    "as_strided_": _strided,
}
