"""Chains as values, and populations of them packed into one word per stage.

A stage is eight bytes: its width in channels (two), its stride, and five blocks, each of them
``kernel << 4 | expansion``, 0 where there is none. A chain is six stages, the absent ones 0. The
numbers are the choices themselves, not places in a list of choices, so that a code means the same
under any options, and no two codes are one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import md5
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.base import Population
from nasplatform.spaces.keys import mixed

MAX_STAGES, MAX_DEPTH, MAX_WIDTH, MAX_EXPANSION = 6, 5, (1 << 16) - 1, 15
STAGE = np.dtype([("width", "<u2"), ("stride", "u1"), ("blocks", "u1", MAX_DEPTH)])


@dataclass(frozen=True)
class Block:
    """One inverted residual block: side of its depthwise window, and widening inside."""

    kernel: int
    expansion: int

    @property
    def code(self) -> int:
        """The byte that stands for the block."""
        return self.kernel << 4 | self.expansion

    @classmethod
    def of(cls, code: int) -> Block:
        """Return the block of a byte."""
        return cls(code >> 4, code & 15)


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them makes the width and the stride."""

    width: int
    stride: int
    blocks: tuple[Block, ...]

    @property
    def code(self) -> int:
        """The word that stands for the stage."""
        word = self.width | self.stride << 16
        for place, block in enumerate(self.blocks, start=3):
            word |= block.code << 8 * place
        return word

    @classmethod
    def of(cls, code: int) -> Stage:
        """Return the stage of a word."""
        width, stride, *blocks = code & MAX_WIDTH, *code.to_bytes(8, "little")[2:]
        return cls(width, stride, tuple(Block.of(block) for block in blocks if block))

    def __str__(self) -> str:
        blocks = "-".join(f"k{block.kernel}e{block.expansion}" for block in self.blocks)
        return f"w{self.width}s{self.stride}:{blocks}"


@dataclass(frozen=True)
class Chain:
    """One architecture: its stages in order."""

    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        return "/".join(map(str, self.stages))

    @cached_property
    def hash(self) -> str:
        """The md5 of the text form."""
        return _md5(str(self))


class Chains(Population[Chain]):
    """A population of chains, 48 bytes each."""

    words: ClassVar[int] = MAX_STAGES

    def _unpack(self, code: NDArray[np.uint64]) -> Chain:
        return Chain(tuple(Stage.of(word) for word in code.tolist() if word))

    @property
    def stages(self) -> NDArray[Any]:
        """(B, 6) of ``STAGE``: width, stride and blocks of each stage; 0 where there is none."""
        return fields(self.codes)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(B,) 64-bit mix of the words."""
        return mixed(self.codes)

    @cached_property
    def texts(self) -> list[str]:
        """The text form of each chain, written once for each stage that occurs."""
        columns = []
        for words in self.codes.T[: self._most_stages]:
            found, places = np.unique(words, return_inverse=True)
            known = [str(Stage.of(word)) if word else "" for word in found.tolist()]
            columns.append([known[place] for place in places.tolist()])
        return ["/".join(filter(None, stages)) for stages in zip(*columns, strict=True)]

    @property
    def _most_stages(self) -> int:
        return int((self.codes != 0).any(0).sum())

    @cached_property
    def hashes(self) -> list[str]:
        """The md5 of the text form of every chain."""
        return [_md5(text) for text in self.texts]


def pack(chains: Sequence[Chain]) -> NDArray[np.uint64]:
    """Return the codes (B, 6) of chains."""
    codes = np.zeros((len(chains), MAX_STAGES), np.uint64)
    for row, chain in zip(codes, chains, strict=True):
        row[: len(chain.stages)] = [stage.code for stage in chain.stages]
    return codes


def fields(codes: NDArray[np.uint64]) -> NDArray[Any]:
    """Return codes (B, W) as (B, W) of ``STAGE``, the same memory where that is possible."""
    return np.ascontiguousarray(codes.astype("<u8", copy=False)).view(STAGE)


def words(stages: NDArray[Any]) -> NDArray[np.uint64]:
    """Return (B, W) of ``STAGE`` as codes (B, W)."""
    return np.ascontiguousarray(stages).view("<u8").astype(np.uint64, copy=False)


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
