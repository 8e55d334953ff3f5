"""The space itself: text, sampling, neighbours, arrays, networks, decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from nasplatform.spaces.families import Family
from nasplatform.spaces.graph import GraphBatch
from nasplatform.spaces.vit import decisions
from nasplatform.spaces.vit.architecture import VisionTransformer
from nasplatform.spaces.vit.choices import SubSpace
from nasplatform.spaces.vit.costs import Costs, count
from nasplatform.spaces.vit.edits import drawn, edited, held
from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.graphs import Graphs
from nasplatform.spaces.vit.numbers import Numbers
from nasplatform.spaces.vit.options import TransformerOptions
from nasplatform.spaces.vit.population import Rows, Transformers, as_bytes, codes, packed, rows
from nasplatform.spaces.vit.reading import read_rows
from nasplatform.spaces.vit.subspaces import SUBSPACES
from nasplatform.spaces.vit.text import format_text, parse_text


class VisionTransformers(Space[VisionTransformer]):
    """Visual transformers of a named sub-space.

    The text form is ``average/conv2s2+w32+learned:h1w8-reduction2-mlp4,2*h4w32-mlpconv1``: what is
    read, then stages between slashes, each its entry, width and positions, then its layers: heads
    and width of the attention, its kind unless global, the feed-forward part and its ratio.
    """

    name: ClassVar[str] = "vit"
    prior: ClassVar[str] = "every decision of the sub-space uniform, depths first"
    Options: ClassVar[type[TransformerOptions]] = TransformerOptions
    options: TransformerOptions

    @property
    def subspace(self) -> SubSpace:
        """What may be chosen."""
        return SUBSPACES[self.options.subspace]

    def parse(self, text: str) -> VisionTransformer:
        """Read the text form; raise ArchitectureError that says what is wrong and where."""
        architecture = parse_text(as_text(text))
        self.subspace.row(architecture)
        return architecture

    def parse_many(self, texts: Iterable[str]) -> tuple[Transformers, dict[int, ArchitectureError]]:
        """Read many texts; each is compared with the sub-space once."""
        read, errors = [], {}
        for index, text in enumerate(in_order(texts)):
            try:
                read.append(self.subspace.row(parse_text(as_text(text))))
            except ArchitectureError as error:
                errors[index] = error
        return Transformers(packed(read, self.subspace)), errors

    def format(self, architecture: VisionTransformer) -> str:
        """Return the text form."""
        architecture = architecture_of(architecture, VisionTransformer)
        return format_text(architecture)

    def population(self, architectures: Sequence[VisionTransformer]) -> Transformers:
        """Pack transformers; a population is returned as it is."""
        if isinstance(architectures, Transformers):
            return architectures
        return Transformers(
            packed(
                [
                    self.subspace.row(one)
                    for one in architectures_of(architectures, VisionTransformer)
                ],
                self.subspace,
            )
        )

    def from_codes(self, codes: NDArray[np.uint64]) -> Transformers:
        """Wrap packed codes (B, 6); raise ArchitectureError for one that is no member."""
        found = Transformers(codes)
        known = self.contains_codes(found.codes)
        if not known.all():
            row = int(np.argmin(known))
            shown = "-".join(f"{word:016x}" for word in found.codes[row].tolist())
            raise ArchitectureError(
                f"code {shown} in row {row} is none of sub-space {self.options.subspace!r}"
            )
        return found

    def contains_codes(self, codes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return (B,): which codes (B, 6) are architectures of the sub-space."""
        every = as_bytes(codes)
        behind = every[:, 1 + len(self.subspace.decisions) :]
        known: NDArray[np.bool_] = (every[:, 0] == self.subspace.number) & ~behind.any(1)
        return known & held(rows(codes, self.subspace), self.subspace)

    def enumerate(self) -> None:
        """There are far too many."""

    def sample(self, n: int, rng: np.random.Generator) -> Transformers:
        """Draw transformers, every decision uniform."""
        check_draw(n, rng)
        return Transformers(codes(drawn(n, self.subspace, rng), self.subspace))

    def neighbours(self, architectures: Sequence[VisionTransformer]) -> Transformers:
        """Return the unique transformers with one decision changed.

        A depth changes by one: the last layer is taken away, or any one put behind it.
        """
        given = self.population(architectures)
        changed = edited(self._rows(given), self.subspace)
        around = Transformers(codes(changed, self.subspace)).unique()
        return around[~np.isin(around.keys, given.keys)]

    def graphs(self, architectures: Sequence[VisionTransformer]) -> GraphBatch:
        """Turn transformers into arrays: C = 1 cell, a node for each entry and each layer."""
        found = self._rows(architectures)
        numbers = Numbers.of(found, self.subspace)
        return self._graphs.batch(self.name, found, numbers, self._count(numbers))

    def from_graphs(self, graphs: GraphBatch) -> Transformers:
        """Return the transformers of which ``graphs`` made these arrays."""
        if graphs.kind != self.graphs([]).kind:
            raise ArchitectureError(
                f"graphs of space {graphs.space!r}, expected {self.name!r} with the same options"
            )
        return Transformers(codes(read_rows(graphs, self._graphs), self.subspace))

    def costs(self, architectures: Sequence[VisionTransformer]) -> Costs:
        """Count parameters and multiply-adds, products of attention apart; builds no module."""
        return self._count(Numbers.of(self._rows(architectures), self.subspace))

    def build(self, architecture: VisionTransformer) -> nn.Module:
        """Make the network, freshly initialised from torch's generator."""
        architecture = architecture_of(architecture, VisionTransformer)
        from nasplatform.spaces.vit.network import Network

        return Network(architecture, self.options.input_shape, self.options.classes)

    def blocks(self, module: nn.Module) -> list[nn.Module]:
        """Return the tokens with their positions and the layers, stage after stage."""
        found: list[nn.Module] = []
        for stage in module.get_submodule("stages").children():
            found += [stage.get_submodule("positions"), *stage.get_submodule("blocks").children()]
        return found

    def families(self) -> tuple[Family[VisionTransformer], ...]:
        """Return published transformers, most of them outside of the named sub-spaces."""
        return families()

    def distributions(self) -> dict[str, BaseDistribution]:
        """``depth``, ``layer1_heads`` and so on, of several stages ``stage1_depth``; where open."""
        return decisions.distributions(self.subspace)

    def active(self, params: Mapping[str, Any]) -> frozenset[str]:
        """Return the decisions of the layers within the depths, and those of every stage."""
        return decisions.active(params, self.subspace)

    def to_params(self, architecture: VisionTransformer) -> dict[str, Any]:
        """Express a transformer in its decisions."""
        architecture = architecture_of(architecture, VisionTransformer)
        return decisions.to_params(self.subspace.row(architecture), self.subspace)

    def from_params(self, params: Mapping[str, Any]) -> VisionTransformer:
        """Read decisions back; raise ArchitectureError for one that is missing."""
        return self.subspace.architecture(decisions.to_row(params, self.subspace))

    def _rows(self, architectures: Sequence[VisionTransformer]) -> Rows:
        return rows(self.population(architectures).codes, self.subspace)

    def _count(self, numbers: Numbers) -> Costs:
        return count(numbers, self.options.input_shape, self.options.classes)

    @cached_property
    def _graphs(self) -> Graphs:
        return Graphs(self.subspace, self.options.input_shape)
