"""What the nodes of a chain's graph mean: one operation per block that may be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.graph import Attribute, Operation
from nasplatform.spaces.macro_chain.chains import Block
from nasplatform.spaces.macro_chain.skeleton import Skeleton

IDENTITY = 1


@dataclass(frozen=True)
class Vocabulary:
    """Operations and attributes of the graphs of a skeleton.

    The first block of a stage makes width and stride and has no residual; those after it have.
    Both are operations of their own: ``mbconv3x3-e6-entry`` and ``mbconv3x3-e6``.
    """

    skeleton: Skeleton

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Input, identity, the entries, the residual blocks, output."""
        blocks = self.skeleton.blocks
        entries = [_inverted_residual(block, residual=False) for block in blocks]
        others = [_inverted_residual(block, residual=True) for block in blocks]
        ends = Operation("input", "input"), Operation("identity", "skip")
        return (*ends, *entries, *others, Operation("output", "output"))

    @cached_property
    def attributes(self) -> tuple[Attribute, ...]:
        """Kernel, expansion, width, stride."""
        widths = [width for choices in self.skeleton.widths for width in choices]
        return (
            Attribute("kernel", "px", self.skeleton.kernels[0], self.skeleton.kernels[-1]),
            Attribute("expansion", "", self.skeleton.expansions[0], self.skeleton.expansions[-1]),
            Attribute("width", "channels", min(widths), max(widths)),
            Attribute("stride", "", 1, 2),
        )

    def ops(self, blocks: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Return (B, N) op ids of the blocks (B, S, D), bytes as ``chains`` packs them."""
        (b, s, d), known = blocks.shape, [block.code for block in self.skeleton.blocks]
        entries, others = np.full((2, 256), IDENTITY, np.int8)
        entries[known] = np.arange(len(known)) + IDENTITY + 1
        others[known] = entries[known] + len(known)
        middle = others[blocks]
        middle[:, :, 0] = entries[blocks[:, :, 0]]
        ops = np.zeros((b, s * d + 2), np.int8)
        ops[:, 1:-1], ops[:, -1] = middle.reshape(b, s * d), len(self.operations) - 1
        return ops

    def blocks(self, ops: NDArray[np.int8]) -> NDArray[np.uint8]:
        """Return the blocks (B, S, D) of op ids (B, N)."""
        known = [block.code for block in self.skeleton.blocks]
        codes = np.array([0, 0, *known, *known, 0], np.uint8)
        return codes[ops[:, 1:-1]].reshape(len(ops), self.skeleton.stages, self.skeleton.max_depth)


def _inverted_residual(block: Block, *, residual: bool) -> Operation:
    k, e = block.kernel, block.expansion
    expand = Operation("conv1x1-bn-relu6", "conv", kernel=1, nonlinear=True, normalised=True)
    window = Operation(
        f"dwconv{k}x{k}-bn-relu6",
        "conv",
        kernel=k,
        groups="depthwise",
        nonlinear=True,
        normalised=True,
    )
    project = Operation("conv1x1-bn", "conv", kernel=1, normalised=True)
    return Operation(
        f"mbconv{k}x{k}-e{e}" + ("" if residual else "-entry"),
        "block",
        kernel=k,
        expansion=e,
        nonlinear=True,
        normalised=True,
        residual=residual,
        parts=(expand, window, project) if e > 1 else (window, project),
    )
