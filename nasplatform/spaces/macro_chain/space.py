"""The space itself: text, sampling, neighbours, arrays, networks, decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from torch import nn

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.base import (
    Space,
    architecture_of,
    architectures_of,
    as_text,
    check_draw,
    in_order,
)
from nasplatform.spaces.graph import GraphBatch
from nasplatform.spaces.macro_chain.chains import (
    MAX_STAGES,
    STAGE,
    Chain,
    Chains,
    fields,
    pack,
    words,
)
from nasplatform.spaces.macro_chain.costs import count
from nasplatform.spaces.macro_chain.decisions import Decisions
from nasplatform.spaces.macro_chain.edits import edited
from nasplatform.spaces.macro_chain.skeleton import Skeleton
from nasplatform.spaces.macro_chain.text import parse
from nasplatform.spaces.macro_chain.vocabulary import Vocabulary


class MacroChain(Space[Chain]):
    """Chains of inverted residual blocks: depth, width and stride per stage, window and expansion.

    The text form is ``w16s1:k3e3-k5e6/w24s2:k3e6``: a stage of 16 channels and stride 1 with two
    blocks, windows of 3 and 5 and expansions 3 and 6, then a stage of 24 channels and stride 2.
    The first block of a stage makes its width and stride; the others keep the shape and add their
    input.
    """

    name: ClassVar[str] = "macro-chain"
    prior: ClassVar[str] = (
        "every decision uniform: depth, width and stride of each stage, then window and expansion "
        "of each of its blocks"
    )
    Options: ClassVar[type[Skeleton]] = Skeleton
    options: Skeleton

    def parse(self, text: str) -> Chain:
        """Read the text form; raise ArchitectureError that says what is wrong and where."""
        return parse(as_text(text), self.options)

    def parse_many(self, texts: Iterable[str]) -> tuple[Chains, dict[int, ArchitectureError]]:
        """Read many texts; each stage that occurs is parsed once."""
        known: dict[tuple[int, str], int] = {}
        read: list[list[int]] = []
        errors: dict[int, ArchitectureError] = {}
        for index, text in enumerate(in_order(texts)):
            parts = text.split("/") if isinstance(text, str) else []
            places = list(enumerate(parts))
            if len(parts) == self.options.stages and all(place in known for place in places):
                read.append([known[place] for place in places])
                continue
            try:
                chain = self.parse(as_text(text))
            except ArchitectureError as error:
                errors[index] = error
                continue
            read.append([stage.code for stage in chain.stages])
            known |= zip(places, read[-1], strict=True)
        codes = np.zeros((len(read), MAX_STAGES), np.uint64)
        codes[:, : self.options.stages] = np.array(read, np.uint64).reshape(
            len(read), self.options.stages
        )
        return Chains(codes), errors

    def format(self, architecture: Chain) -> str:
        """Return the text form."""
        architecture = architecture_of(architecture, Chain)
        return str(architecture)

    def population(self, architectures: Sequence[Chain]) -> Chains:
        """Pack chains; a population is returned as it is."""
        if isinstance(architectures, Chains):
            return architectures
        return Chains(pack(architectures_of(architectures, Chain)))

    def from_codes(self, codes: NDArray[np.uint64]) -> Chains:
        """Wrap packed codes (B, 6); raise ArchitectureError for one that is no chain."""
        chains = Chains(codes)
        held = self.contains_codes(chains.codes)
        if not held.all():
            row = int(np.argmin(held))
            shown = "-".join(f"{word:016x}" for word in chains.codes[row].tolist())
            raise ArchitectureError(f"code {shown} in row {row} is no chain of these options")
        return chains

    def contains_codes(self, codes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return (B,): which codes (B, 6) are chains of the space."""
        stages, skeleton = fields(codes), self.options
        blocks = stages["blocks"]
        present = blocks > 0
        held: NDArray[np.bool_] = (codes[:, skeleton.stages :] == 0).all(1)
        held &= np.isin(blocks, [0, *(block.code for block in skeleton.blocks)]).all((1, 2))
        held &= (present[:, :, :-1] >= present[:, :, 1:]).all((1, 2))
        held &= present[:, : skeleton.stages, 0].all(1)
        held &= ~present[:, :, skeleton.max_depth :].any((1, 2))
        for place, (widths, strides) in enumerate(self._choices):
            held &= np.isin(stages["width"][:, place], widths)
            held &= np.isin(stages["stride"][:, place], strides)
        return held

    def enumerate(self) -> None:
        """There are far too many chains."""

    def sample(self, n: int, rng: np.random.Generator) -> Chains:
        """Draw chains, every decision uniform."""
        check_draw(n, rng)
        skeleton = self.options
        stages = np.zeros((n, MAX_STAGES), STAGE)
        known = np.array([block.code for block in skeleton.blocks], np.uint8)
        for place, (widths, strides) in enumerate(self._choices):
            stages["width"][:, place] = rng.choice(widths, n)
            stages["stride"][:, place] = rng.choice(strides, n)
            depth = rng.integers(1, skeleton.max_depth + 1, size=(n, 1))
            blocks = rng.choice(known, (n, skeleton.max_depth))
            blocks[np.arange(skeleton.max_depth) >= depth] = 0
            stages["blocks"][:, place, : skeleton.max_depth] = blocks
        return Chains(words(stages))

    def neighbours(self, architectures: Sequence[Chain]) -> Chains:
        """Return the unique chains with one decision changed.

        That is a width, a stride, the window or the expansion of a block, or a stage's last block
        taken away or one put behind it.
        """
        chains = self.population(architectures)
        around = Chains(words(edited(chains.stages, self.options))).unique()
        return around[~np.isin(around.keys, chains.keys)]

    def graphs(self, architectures: Sequence[Chain]) -> GraphBatch:
        """Turn chains into arrays: C = 1 cell of N = 2 + stages x max_depth nodes.

        Nodes are the input (what leaves the stem), max_depth places for each stage, ``identity``
        where there is no block, and the output (what enters the pooling).
        """
        stages = self.population(architectures).stages[:, : self.options.stages]
        blocks = stages["blocks"][:, :, : self.options.max_depth]
        ops = self._vocabulary.ops(blocks)
        b, n = ops.shape
        return GraphBatch(
            space=self.name,
            vocabulary=self._vocabulary.operations,
            stages=(0,),
            adjacency=np.repeat(np.eye(n, k=1, dtype=np.uint8)[None], b, axis=0),
            ops=ops,
            positional=True,
            attribute_schema=self._vocabulary.attributes,
            attributes=_attributes(stages, blocks),
            **count(stages, self.options)._asdict(),
        )

    def from_graphs(self, graphs: GraphBatch) -> Chains:
        """Return the chains of which ``graphs`` made these arrays."""
        if graphs.kind != self.graphs([]).kind:
            raise ArchitectureError(
                f"graphs of space {graphs.space!r}, expected {self.name!r} with the same options"
            )
        assert graphs.attributes is not None  # as its schema says
        blocks = self._vocabulary.blocks(graphs.ops)
        first = graphs.attributes[:, 1 : -1 : self.options.max_depth]
        stages = np.zeros((len(graphs), MAX_STAGES), STAGE)
        stages["blocks"][:, : self.options.stages, : self.options.max_depth] = blocks
        stages["width"][:, : self.options.stages] = first[:, :, 2]
        stages["stride"][:, : self.options.stages] = first[:, :, 3]
        return Chains(words(stages))

    def build(self, architecture: Chain) -> nn.Module:
        """Make the network, freshly initialised from torch's generator."""
        architecture = architecture_of(architecture, Chain)
        from nasplatform.spaces.macro_chain.network import Network

        return Network(architecture, self.options)

    def blocks(self, module: nn.Module) -> list[nn.Module]:
        """Return stem and inverted residuals."""
        return [module.get_submodule("stem"), *module.get_submodule("body").children()]

    def distributions(self) -> dict[str, BaseDistribution]:
        """``stage1_depth``, ``stage1_width``, ``stage1_block1_kernel`` and so on, where open."""
        return self._decisions.distributions

    def active(self, params: Mapping[str, Any]) -> frozenset[str]:
        """Return the decisions of the blocks within the depths, and those of every stage."""
        return self._decisions.active(params)

    def to_params(self, architecture: Chain) -> dict[str, Any]:
        """Express a chain in its decisions."""
        architecture = architecture_of(architecture, Chain)
        return self._decisions.of(architecture)

    def from_params(self, params: Mapping[str, Any]) -> Chain:
        """Read decisions back; raise ArchitectureError for one that is missing."""
        return self._decisions.chain(params)

    @property
    def _choices(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        return zip(self.options.widths, self.options.strides, strict=True)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.options)

    @cached_property
    def _decisions(self) -> Decisions:
        return Decisions(self.options)


def _attributes(stages: NDArray[Any], blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (B, N, 4) kernel, expansion, width and stride of the blocks, NaN elsewhere."""
    b, s, d = blocks.shape
    values = np.empty((b, s, d, 4), np.float32)
    values[..., 0], values[..., 1] = blocks >> 4, blocks & 15
    values[..., 2], values[..., 3] = stages["width"][:, :, None], 1
    values[:, :, 0, 3] = stages["stride"]
    values[blocks == 0] = np.nan
    attributes = np.full((b, s * d + 2, 4), np.nan, np.float32)
    attributes[:, 1:-1] = values.reshape(b, s * d, 4)
    return attributes
