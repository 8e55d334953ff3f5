"""Largest values, means and sums."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from nasplatform.runtimes.packed.following import Following, Rules, expect
from nasplatform.runtimes.packed.maps import Laid, Order
from nasplatform.runtimes.packed.rules.arithmetic import by_constant
from nasplatform.runtimes.packed.rules.weighted import map_of_channels
from nasplatform.runtimes.packed.rules.windows import pair_window
from nasplatform.runtimes.packed.steps import Step, Window


def _max_pool(
    f: Following, made: Any, inputs: Any, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> None:  # fmt: skip
    window = _covering(pair_window(kernel, stride or kernel, padding, dilation), inputs, made[0])
    _pool(f, made[0], inputs, "max_pool", window)


def _avg_pool(
    f: Following, made: Tensor, inputs: Any, kernel: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor: Any = None,
) -> None:  # fmt: skip
    expect(divisor is None, "a pooling with a divisor")
    plain = pair_window(kernel, stride or kernel, padding, 1)
    window, padded = _covering(plain, inputs, made), count_include_pad
    expect(window == plain or not padded, "a pooling with ceil_mode that counts its padding")
    _pool(f, made, inputs, "avg_pool", window, padded)


def _pool(
    f: Following, made: Tensor, inputs: Tensor, op: str, window: Window, padded: bool = True
) -> None:
    step = Step(op=op, source=map_of_channels(f, inputs), window=window, padded=padded)
    f.add(made, step, Order.CHANNELS_FIRST)


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


def _adaptive(f: Following, made: Tensor, inputs: Any, size: Any) -> None:
    both = list(zip(inputs.shape[2:], size, strict=True))
    expect(all(have % wanted == 0 for have, wanted in both), "an adaptive pooling of uneven parts")
    kernel = tuple(have // wanted for have, wanted in both)
    _pool(f, made, inputs, "avg_pool", Window(kernel=kernel, stride=kernel))


def _mean(f: Following, made: Tensor, inputs: Any, axes: Any = None, *_: Any, **__: Any) -> None:
    _reduced(f, made, inputs, axes)


def _sum(f: Following, made: Tensor, inputs: Any, axes: Any = None, *_: Any, **__: Any) -> None:
    _reduced(f, made, inputs, axes, whole=True)


def _reduced(f: Following, made: Tensor, inputs: Tensor, axes: Any, whole: bool = False) -> None:
    """The mean along axes, or with ``whole`` the sum, which is the mean times how many."""
    gone = {axis % inputs.ndim for axis in axes or range(inputs.ndim)}
    many = math.prod(inputs.shape[axis] for axis in gone)
    expect(many > 0, "a mean of nothing")
    known = f.known(inputs)
    if isinstance(known, Laid) and known.order is Order.CHANNELS_FIRST and gone == {2, 3}:
        source, kernel = known.number, (inputs.shape[2], inputs.shape[3])
    else:
        kept = [axis for axis in range(inputs.ndim) if axis not in gone]
        rows = f.places(inputs).permute(*kept, *sorted(gone))
        rows = rows.reshape(f.maps.images, 1, -1, many).mT
        source, kernel = f.arranged(rows), (1, many)
    found = f.append(Step(op="avg_pool", source=source, window=Window(kernel=kernel)))
    laid = Laid(tuple(made.shape), found, Order.CHANNELS_LAST)
    if whole:
        step = Step(op="map", source=found, maps=(by_constant(f, laid, "mul", float(many)),))
        laid = f.maps.like(laid, f.append(step))
    f.know(made, laid)


RULES: Rules = {
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "_adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    "sum": _sum,
}
