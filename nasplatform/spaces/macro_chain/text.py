"""The text form: ``w16s1:k3e3-k5e6/w24s2:k3e6``, stages between slashes, blocks between dashes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.macro_chain.chains import Block, Chain, Stage
from nasplatform.spaces.macro_chain.skeleton import Skeleton

_NUMBER = "([1-9][0-9]{0,5})"
_STAGE = re.compile(f"w{_NUMBER}s{_NUMBER}:(.*)", re.DOTALL)
_BLOCK = re.compile(f"k{_NUMBER}e{_NUMBER}")
_SHOWN = 40


def parse(text: str, skeleton: Skeleton) -> Chain:
    """Read a chain; raise ArchitectureError that says what is wrong and in which stage."""
    parts = text.strip().split("/")
    if len(parts) != skeleton.stages:
        raise ArchitectureError(
            f"{text[:_SHOWN]!r} has {len(parts)} stage(s) between '/', expected {skeleton.stages} "
            f"such as 'w{skeleton.widths[0][0]}s{skeleton.strides[0][0]}:k3e3-k5e6'"
        )
    return Chain(tuple(parse_stage(part, place, skeleton) for place, part in enumerate(parts)))


def parse_stage(text: str, place: int, skeleton: Skeleton) -> Stage:
    """Read the stage at a place, counted from 0."""
    where = f"stage {place + 1}"
    match = _STAGE.fullmatch(text)
    if match is None:
        raise ArchitectureError(
            f"{where} is {text[:_SHOWN]!r}, expected wWIDTHsSTRIDE:BLOCK-BLOCK... with blocks "
            f"such as k3e6"
        )
    width, stride, blocks = int(match[1]), int(match[2]), match[3].split("-")
    _require(f"{where}: width", width, skeleton.widths[place])
    _require(f"{where}: stride", stride, skeleton.strides[place])
    if len(blocks) > skeleton.max_depth:
        raise ArchitectureError(
            f"{where} has {len(blocks)} blocks, expected at most {skeleton.max_depth}"
        )
    read = (_block(part, f"{where}, block {n}", skeleton) for n, part in enumerate(blocks, 1))
    return Stage(width, stride, tuple(read))


def _block(text: str, where: str, skeleton: Skeleton) -> Block:
    match = _BLOCK.fullmatch(text)
    if match is None:
        raise ArchitectureError(f"{where} is {text[:_SHOWN]!r}, expected e.g. 'k3e6'")
    block = Block(int(match[1]), int(match[2]))
    _require(f"{where}: kernel", block.kernel, skeleton.kernels)
    _require(f"{where}: expansion", block.expansion, skeleton.expansions)
    return block


def _require(what: str, given: int, choices: Sequence[int]) -> None:
    if given not in choices:
        raise ArchitectureError(f"{what} is {given}, expected {', '.join(map(str, choices))}")
