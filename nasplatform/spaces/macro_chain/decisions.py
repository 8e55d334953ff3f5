"""Chains as decisions, for samplers that know nothing of graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.macro_chain.chains import Block, Chain, Stage
from nasplatform.spaces.macro_chain.skeleton import Skeleton


class Decisions:
    """The open decisions of a skeleton; what has one choice only is none.

    Stages and blocks are counted from 1. Window and expansion of a block are decided where the
    depth of the stage reaches it.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Name -> distribution, depths before what depends on them."""
        found: dict[str, BaseDistribution] = {}
        for name, choices in self._choices.items():
            if len(choices) > 1:
                found[name] = (
                    IntDistribution(choices[0], choices[-1])
                    if name.endswith("_depth")
                    else CategoricalDistribution(choices)
                )
        return found

    @cached_property
    def _choices(self) -> dict[str, tuple[int, ...]]:
        skeleton, found = self.skeleton, {}
        depths = tuple(range(1, skeleton.max_depth + 1))
        for stage in range(skeleton.stages):
            found[_name(stage, "depth")] = depths
            found[_name(stage, "width")] = skeleton.widths[stage]
            found[_name(stage, "stride")] = skeleton.strides[stage]
            for block in range(skeleton.max_depth):
                found[_name(stage, "kernel", block)] = skeleton.kernels
                found[_name(stage, "expansion", block)] = skeleton.expansions
        return found

    def active(self, params: Mapping[str, Any]) -> frozenset[str]:
        """Return what is decided given the depths; without one, only the first block of a stage."""
        return frozenset(self._names(params)) & frozenset(self.distributions)

    def _names(self, params: Mapping[str, Any]) -> Iterator[str]:
        for stage in range(self.skeleton.stages):
            depth = _name(stage, "depth")
            yield from (depth, _name(stage, "width"), _name(stage, "stride"))
            for block in range(params.get(depth, 1)):
                yield from (_name(stage, "kernel", block), _name(stage, "expansion", block))

    def of(self, chain: Chain) -> dict[str, Any]:
        """Return the open decisions of a chain, in the order of ``distributions``."""
        made: dict[str, Any] = {}
        for place, stage in enumerate(chain.stages):
            made[_name(place, "depth")] = len(stage.blocks)
            made[_name(place, "width")] = stage.width
            made[_name(place, "stride")] = stage.stride
            for number, block in enumerate(stage.blocks):
                made[_name(place, "kernel", number)] = block.kernel
                made[_name(place, "expansion", number)] = block.expansion
        return {name: value for name, value in made.items() if name in self.distributions}

    def chain(self, params: Mapping[str, Any]) -> Chain:
        """Return the chain of the decisions; what is not active is ignored."""
        return Chain(tuple(self._stage(place, params) for place in range(self.skeleton.stages)))

    def _stage(self, place: int, params: Mapping[str, Any]) -> Stage:
        blocks = (
            Block(
                self._value(_name(place, "kernel", number), params),
                self._value(_name(place, "expansion", number), params),
            )
            for number in range(self._value(_name(place, "depth"), params))
        )
        width, stride = (self._value(_name(place, what), params) for what in ("width", "stride"))
        return Stage(width, stride, tuple(blocks))

    def _value(self, name: str, params: Mapping[str, Any]) -> int:
        choices = self._choices[name]
        if len(choices) == 1:
            return choices[0]
        if name not in params:
            raise ArchitectureError(f"decision {name!r} is missing")
        if params[name] not in choices:
            known = ", ".join(map(str, choices))
            raise ArchitectureError(f"decision {name!r} is {params[name]!r}, expected {known}")
        return int(params[name])


def _name(stage: int, what: str, block: int | None = None) -> str:
    place = f"stage{stage + 1}" if block is None else f"stage{stage + 1}_block{block + 1}"
    return f"{place}_{what}"
