"""Sums and products of maps, and of maps with constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasplatform.runtimes.packed.following import Following, Rules, expect
from nasplatform.runtimes.packed.maps import Laid, Order
from nasplatform.runtimes.packed.steps import Map, Step

_OF_MAPS = {"add": "plus", "mul": "times"}


def mapped(f: Following, laid: Laid, maps: tuple[Map, ...]) -> Laid:
    """Do maps to each element of a tensor."""
    return f.maps.like(laid, f.append(Step(op="map", source=laid.number, maps=maps)))


def by_constant(f: Following, laid: Laid, kind: str, values: Any) -> Map:
    """Return what adds (``add``) or multiplies by (``mul``) constants; they are broadcast."""
    given = torch.as_tensor(values, dtype=torch.float32)
    if given.numel() == 1:
        given = given.expand(f.maps.shapes[laid.number][2])
        return Map(kind=kind, values=f.tensor(given))
    placed = f.maps.in_map(laid, given.expand(laid.shape))
    expect(bool((placed == placed[:1]).all()), "constants that differ between images")
    first = placed[0]
    if (first == first[:1, :1]).all():
        return Map(kind=kind, values=f.tensor(first[0, 0]))
    return Map(kind=_OF_MAPS[kind], other=f.constant(first, f.maps.shapes[laid.number]))


def by_channel(f: Following, laid: Laid, kind: str, values: Tensor) -> Map:
    """Return what the channels of a map do by themselves; refuse what differs within a map."""
    placed = f.maps.in_map(laid, values.expand(laid.shape))
    one = placed[0, 0, 0]
    expect(bool((placed == one).all()), "a constant that differs within a map")
    return Map(kind=kind, values=f.tensor(one))


def constants(f: Following, made: Tensor, inputs: Tensor, *maps: tuple[str, Any]) -> None:
    """Note additions of and multiplications by constants, one after the other."""
    laid = f.laid(inputs, tuple(made.shape))
    f.know(made, mapped(f, laid, tuple(by_constant(f, laid, *each) for each in maps)))


def _sum(f: Following, made: Tensor, one: Any, other: Any, alpha: Any = 1) -> None:
    if f.follows(one) and f.follows(other):
        if alpha != 1:
            laid = f.laid(other)
            scaled = mapped(f, laid, (by_constant(f, laid, "mul", alpha),))
            other = torch.empty(laid.shape)
            f.know(other, scaled)
        _of_maps(f, made, one, other, "add")
    elif f.follows(one):
        values = torch.as_tensor(other, dtype=torch.float32) * alpha
        if values.any() or made.shape != one.shape:
            constants(f, made, one, ("add", values))
        else:  # sums of searched cells begin with zeros
            f.know(made, f.known(one))
    elif alpha == 1:
        _sum(f, made, other, one)
    else:
        constants(f, made, other, ("mul", alpha), ("add", one))


def _difference(f: Following, made: Tensor, one: Any, other: Any, alpha: Any = 1) -> None:
    _sum(f, made, one, other, -alpha)


def _reversed_difference(f: Following, made: Tensor, one: Any, other: Any, alpha: Any = 1) -> None:
    _sum(f, made, other, one, -alpha)


def _product(f: Following, made: Tensor, one: Any, other: Any) -> None:
    if f.follows(one) and f.follows(other):
        _of_maps(f, made, one, other, "mul")
    elif f.follows(one):
        constants(f, made, one, ("mul", other))
    else:
        constants(f, made, other, ("mul", one))


def _of_maps(f: Following, made: Tensor, one: Tensor, other: Tensor, kind: str) -> None:
    shape = tuple(made.shape)
    if one.shape != made.shape:
        one, other = other, one
    laid, beside = f.laid(one, shape), f.known(other)
    each = Map(kind=_OF_MAPS[kind], other=0)
    if isinstance(beside, Laid) and _alike(f, laid, beside):
        number = beside.number
    else:
        number, each = _beside(f, laid, f.places(other).expand(shape), each)
    f.know(made, mapped(f, laid, (each.model_copy(update={"other": number}),)))


def _alike(f: Following, one: Laid, other: Laid) -> bool:
    """Say whether two tensors lie in their maps in the same order."""
    ordered = one.order is other.order is not Order.MIXED
    return ordered and one.shape == other.shape and _shape(f, one) == _shape(f, other)


def _beside(f: Following, laid: Laid, places: Tensor, each: Map) -> tuple[int, Map]:
    """Return the other map in the order of the first, and what is done with it."""
    placed, shape = f.maps.in_map(laid, places), _shape(f, laid)
    one = placed[:, :1, :1]
    if each.kind == "times" and shape[:2] != (1, 1) and (placed == one).all():
        return f.arranged(one), Map(kind="gate", other=0)
    return f.arranged(placed), each


def _shape(f: Following, laid: Laid) -> tuple[int, int, int]:
    return f.maps.shapes[laid.number]


def _quotient(f: Following, made: Tensor, one: Any, other: Any) -> None:
    expect(not f.follows(other), "a quotient by a map")
    _product(f, made, one, 1 / torch.as_tensor(other, dtype=torch.float32))


RULES: Rules = {
    **dict.fromkeys(("add", "add_"), _sum),
    **dict.fromkeys(("sub", "sub_"), _difference),
    "rsub": _reversed_difference,
    **dict.fromkeys(("mul", "mul_"), _product),
    **dict.fromkeys(("div", "div_"), _quotient),
}
