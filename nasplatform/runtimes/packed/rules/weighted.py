"""Convolutions and linear layers, and products of matrices of which one is a weight or none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasplatform.runtimes.packed.following import Following, Rules, expect, expect_constants
from nasplatform.runtimes.packed.maps import Laid, Order
from nasplatform.runtimes.packed.rules.windows import pair_window
from nasplatform.runtimes.packed.steps import BLOCK, Map, Step, Window


def map_of_channels(f: Following, inputs: Tensor) -> int:
    """Return the number of the map that is a tensor (B, c, h, w)."""
    known = f.known(inputs)
    if isinstance(known, Laid) and known.order is Order.CHANNELS_FIRST:
        return known.number
    places = f.places(inputs).permute(0, 2, 3, 1)
    return f.arranged(places)


def map_of_rows(f: Following, inputs: Tensor) -> int:
    """Return the number of a map of which each pixel is a row of a tensor (..., c)."""
    known, channels = f.known(inputs), inputs.shape[-1]
    if (
        isinstance(known, Laid)
        and known.order is Order.CHANNELS_LAST
        and f.maps.shapes[known.number][2] == channels
    ):
        return known.number
    rows = f.places(inputs).reshape(f.maps.images, 1, -1, channels)
    return f.arranged(rows, by_rows=True)


def product(f: Following, left: Tensor, right: Tensor, maps: tuple[Map, ...] = ()) -> Tensor:
    """Multiply matrices at places (B, g, T, K) and (B, g, K, N): places (B, g, T, N).

    maps: done to the products, whose map is (1, T, g N).
    """
    images, groups, rows, depth = left.shape
    columns = right.shape[-1]
    blocks = torch.nn.functional.pad(right, (0, -columns % BLOCK))  # with the place of 0
    blocks = torch.unflatten(blocks, -1, (-1, BLOCK)).transpose(2, 3).flatten(1, 2)
    step = Step(
        op="product",
        source=_grouped(f, left),
        other=f.arranged(blocks),
        inputs=depth,
        groups=groups,
        outputs=groups * columns,
        maps=maps,
    )
    return _ungrouped(f, f.append(step), (images, groups, rows, columns))


def _grouped(f: Following, left: Tensor) -> int:
    """Return the map (., T, g K) of places (B, g, T, K)."""
    return f.arranged(left.transpose(1, 2).flatten(2)[:, None], by_rows=True)


def _ungrouped(f: Following, number: int, shape: tuple[int, int, int, int]) -> Tensor:
    images, groups, rows, columns = shape
    made = Laid((images, rows, groups, columns), number, Order.CHANNELS_LAST)
    return f.maps.places(made).transpose(1, 2)


def float_step(
    f: Following, source: int, weight: Tensor, bias: Any, window: Window, groups: int
) -> Step:
    """Return a convolution by a weight (out, in / groups, h, w)."""
    return Step(
        op="conv",
        source=source,
        window=window,
        weight=f.tensor(weight.permute(0, 2, 3, 1)),
        inputs=weight.shape[1],
        groups=groups,
        outputs=weight.shape[0],
        maps=() if bias is None else (Map(kind="add", values=f.tensor(bias)),),
    )


def _convolution(
    f: Following, made: Tensor, inputs: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int,
) -> None:  # fmt: skip
    expect(not transposed and inputs.ndim == 4, "a transposed or not two-dimensional convolution")
    expect_constants(f, weight, bias)
    window = pair_window(weight.shape[2:], stride, padding, dilation)
    step = float_step(f, map_of_channels(f, inputs), weight, bias, window, groups)
    f.add(made, step, Order.CHANNELS_FIRST)


def _addmm(f: Following, made: Tensor, bias: Any, inputs: Any, weight: Any, **scales: Any) -> None:
    expect(not scales and bias.ndim == 1, "a scaled product of matrices")
    expect_constants(f, weight, bias)
    _linear(f, made, inputs, weight, bias)


def _mm(f: Following, made: Tensor, inputs: Any, weight: Any) -> None:
    expect_constants(f, weight)
    _linear(f, made, inputs, weight, None)


def _linear(f: Following, made: Tensor, inputs: Tensor, weight: Tensor, bias: Any) -> None:
    wide = weight.T[:, :, None, None]
    f.add(made, float_step(f, map_of_rows(f, inputs), wide, bias, Window(), 1))


def _bmm(f: Following, made: Tensor, one: Any, other: Any) -> None:
    if not f.follows(one):  # the transposed of both, in the other order
        places = _by_weights(f, f.places(other).mT, one.mT).mT
    elif not f.follows(other):
        places = _by_weights(f, f.places(one), other)
    else:
        sides = (f.places(one), f.places(other))
        left, right = (torch.unflatten(side, 0, (f.maps.images, -1)) for side in sides)
        places = product(f, left, right).flatten(0, 1)
    f.know(made, places)


def _by_weights(f: Following, left: Tensor, weights: Tensor) -> Tensor:
    """Multiply matrices at places (n, R, K) by constants (n, K, N): places (n, R, N).

    Images are blocks of the n matrices, which have the same weights then; or of the R rows.
    """
    images = f.maps.images
    by_matrix = len(left) % images == 0
    if by_matrix:
        blocks = torch.unflatten(weights, 0, (images, -1))
        by_matrix = bool((blocks == blocks[:1]).all()) and f.maps.by_image(left)
    if by_matrix:
        return _groups(f, torch.unflatten(left, 0, (images, -1)), blocks[0]).flatten(0, 1)
    rows = torch.unflatten(left, 1, (images, -1)).transpose(0, 1)
    return _groups(f, rows, weights).transpose(0, 1).flatten(1, 2)


def _groups(f: Following, left: Tensor, weights: Tensor) -> Tensor:
    """Multiply places (B, g, T, K) by constants (g, K, N): places (B, g, T, N)."""
    images, groups, rows, _ = left.shape
    columns = weights.shape[-1]
    wide = weights.mT.flatten(0, 1)[:, :, None, None]
    number = f.append(float_step(f, _grouped(f, left), wide, None, Window(), groups))
    return _ungrouped(f, number, (images, groups, rows, columns))


RULES: Rules = {
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution"), _convolution),
    "addmm": _addmm,
    "mm": _mm,
    "bmm": _bmm,
}
