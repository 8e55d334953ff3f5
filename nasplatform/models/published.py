"""Published networks of a space, counted beside what was printed of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nasplatform.spaces.base import Space
from nasplatform.spaces.families import Family
from nasplatform.training.flops import count_products


@dataclass(frozen=True)
class Counted:
    """Parameters (trainable numbers) and multiply-adds of one image, as built here."""

    params: int
    macs: int
    macs_without_attention: int


def count_family(space: Space[Any], family: Family[Any]) -> Counted:
    """Build a family on torch's device ``meta``, where nothing is computed, and count it."""
    made = space.with_input(family.input_shape, family.classes)
    with torch.device("meta"):
        module = made.build(family.architecture)
    params = sum(weight.numel() for weight in module.parameters())
    macs, attention = count_products(module, family.input_shape)
    return Counted(params, macs, macs - attention)


def describe_family(space: Space[Any], family: Family[Any]) -> dict[str, Any]:
    """Return a row: name, input, what is counted here, what was printed, why they differ."""
    counted = count_family(space, family)
    return {
        "name": family.name,
        "input": "x".join(map(str, family.input_shape)),
        "params": counted.params,
        "macs": counted.macs,
        "macs_without_attention": counted.macs_without_attention,
        "published_params_millions": family.published_params,
        "published_macs_billions": family.published_macs,
        "note": family.note,
    }
