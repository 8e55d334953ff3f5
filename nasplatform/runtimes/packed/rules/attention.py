"""What transformers do with tokens: attention, softmax, layer normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nasplatform.runtimes.packed.following import Following, Rules, expect, expect_constants
from nasplatform.runtimes.packed.maps import Laid, Order
from nasplatform.runtimes.packed.rules.arithmetic import by_constant, mapped
from nasplatform.runtimes.packed.rules.weighted import product
from nasplatform.runtimes.packed.steps import Map, Step


def _layer_norm(
    f: Following, made: Any, inputs: Any, shape: Any, weight: Any, bias: Any, epsilon: float
) -> None:
    expect(len(shape) == 1, f"a normalisation over {len(shape)} axes")
    expect_constants(f, weight, bias)
    laid = _in_rows(f, f.known(inputs), inputs.shape)
    added = f.tensor(torch.tensor([epsilon], dtype=torch.float32))
    number = f.append(Step(op="layer_norm", source=laid.number, weight=added))
    normal = f.maps.like(laid, number)
    pairs = (("mul", weight), ("add", bias))
    maps = tuple(by_constant(f, normal, kind, v) for kind, v in pairs if v is not None)
    f.know(made[0], mapped(f, normal, maps) if maps else normal)


def _softmax(f: Following, made: Tensor, inputs: Any, axis: int, *_: Any) -> None:
    places = f.places(inputs).movedim(axis, -1)
    found = f.maps.places(softmax(f, places))
    f.know(made, found.movedim(-1, axis))


def softmax(f: Following, places: Tensor) -> Laid:
    """Return shares of places (..., c), which add up to 1 along the last axis."""
    laid = _in_rows(f, places, places.shape)
    return f.maps.like(laid, f.append(Step(op="softmax", source=laid.number)))


def _in_rows(f: Following, known: Laid | Tensor, shape: torch.Size) -> Laid:
    """Return a tensor (..., c) in a map each pixel of which is one of its rows."""
    laid = known if isinstance(known, Laid) else f.maps.whole(known)
    if laid is None or not f.maps.has_rows(laid):
        places = f.maps.places(known) if isinstance(known, Laid) else known
        rows = places.reshape(f.maps.images, 1, -1, shape[-1])
        number = f.arranged(rows)
        return Laid(tuple(shape), number, Order.CHANNELS_LAST)
    size = math.prod(f.maps.shapes[laid.number])
    if f.maps.shapes[laid.number][2] == shape[-1]:
        return laid
    wanted = (1, size // shape[-1], shape[-1])
    return f.maps.like(laid, f.append(Step(op="view", source=laid.number, shape=wanted)))


def _attention(
    f: Following, made: Any, query: Any, key: Any, value: Any, dropout: float = 0.0,
    causal: bool = False, *, attn_mask: Any = None, scale: float | None = None,
) -> None:  # fmt: skip
    """(B, heads, T, d) each."""
    expect(not causal, "attention that does not see what comes later")
    by = query.shape[-1] ** -0.5 if scale is None else scale
    many = query.shape[1] * key.shape[2]
    scaled = Map(kind="mul", values=f.tensor(torch.full((many,), by)))
    scores = product(f, f.places(query), f.places(key).mT, (scaled,))
    if attn_mask is not None:
        expect_constants(f, attn_mask)
        expect(attn_mask.dtype != torch.bool, "a mask of yes and no")
        laid = f.laid_at(scores)
        scores = f.maps.places(mapped(f, laid, (by_constant(f, laid, "add", attn_mask),)))
    shares = f.maps.places(softmax(f, scores))
    f.know(made[0], product(f, shares, f.places(value)))


RULES: Rules = {
    "native_layer_norm": _layer_norm,
    **dict.fromkeys(("_softmax", "_safe_softmax"), _softmax),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
}
