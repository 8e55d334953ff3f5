"""The one currency of everything downstream: a population of architectures as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import PredictorError

Kind = Literal["input", "output", "conv", "pool", "skip", "zero", "attention", "mlp", "embed"]


@dataclass(frozen=True)
class Operation:
    """What an op id means, so that an encoding can reason without knowing the space.

    name:           the field's own name, e.g. ``conv3x3-bn-relu``.
    kind:           the family of the operation.
    kernel, stride: side of the window in pixels and its step; 0 and 1 where there is no window.
    mixes_channels: whether an output channel depends on all input channels.
    merge:          how a node combines the tensors that flow into it.
    projects:       whether every edge that leaves the node carries its own 1x1 convolution.
    """

    name: str
    kind: Kind
    kernel: int = 0
    stride: int = 1
    mixes_channels: bool = False
    merge: Literal["sum", "concat"] = "sum"
    projects: bool = False


@dataclass(frozen=True)
class GraphBatch:
    """B architectures at once as a structure of arrays.

    N is the padded number of nodes, C the number of cells in the skeleton, A the number of
    numeric attributes of a node. Nodes are in topological order: node 0 is the input, node
    N - 1 the output, padding (op -1) stands right before the output.

    space:        name of the space, for messages.
    vocabulary:   what each op id means.
    stages:       resolution stage of each cell, length C; it grows by one where maps are halved.
    adjacency:    (B, N, N) uint8, 1 where an edge runs from row to column; strictly upper.
    ops:          (B, N) int8, index into the vocabulary, -1 for padding.
    channels:     (B, C, N) int32, channels that leave the node in each cell; 0 for padding.
    flops:        (B, C, N) int64, floating-point operations per image, two per multiply-add.
    params:       (B, C, N) int64, trainable parameters.
    total_flops:  (B,) int64, whole network, with stem and classifier.
    total_params: (B,) int64, whole network, with stem and classifier.
    attributes:   (B, N, A) float32 where a space has numeric choices, else None.
    """

    space: str
    vocabulary: tuple[Operation, ...]
    stages: tuple[int, ...]
    adjacency: NDArray[np.uint8]
    ops: NDArray[np.int8]
    channels: NDArray[np.int32]
    flops: NDArray[np.int64]
    params: NDArray[np.int64]
    total_flops: NDArray[np.int64]
    total_params: NDArray[np.int64]
    attributes: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def n_nodes(self) -> int:
        """Padded number of nodes N."""
        return int(self.ops.shape[1])

    @property
    def n_cells(self) -> int:
        """Number of cells C in the skeleton."""
        return len(self.stages)

    def __getitem__(self, index: slice | NDArray[np.integer] | NDArray[np.bool_]) -> GraphBatch:
        """Return the sub-batch of a slice, an index array or a mask."""
        return replace(self, **{name: value[index] for name, value in self._arrays().items()})

    def operation_mask(self, **traits: object) -> NDArray[np.bool_]:
        """Return (B, N): nodes whose operation has all these traits, e.g. ``kind="conv"``."""
        wanted = [
            all(getattr(op, key) == value for key, value in traits.items())
            for op in self.vocabulary
        ]
        return np.array([*wanted, False])[self.ops]  # op -1, padding, reads the last entry

    def require_same_kind(self, other: GraphBatch) -> None:
        """Raise PredictorError unless ``other`` has this batch's vocabulary and shape."""
        mine = (self.vocabulary, self.n_nodes, self.stages, self._attribute_width())
        theirs = (other.vocabulary, other.n_nodes, other.stages, other._attribute_width())
        if mine != theirs:
            raise PredictorError(
                f"graphs of space {other.space!r} ({other.n_nodes} nodes, {other.n_cells} cells) "
                f"given where space {self.space!r} ({self.n_nodes} nodes, {self.n_cells} cells) "
                f"was expected"
            )

    def _attribute_width(self) -> int:
        return 0 if self.attributes is None else int(self.attributes.shape[2])

    def _arrays(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def concatenate(batches: Sequence[GraphBatch]) -> GraphBatch:
    """Join batches of one space; raise PredictorError where their spaces differ."""
    first = batches[0]
    for other in batches[1:]:
        first.require_same_kind(other)
    names = first._arrays()
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(b, name) for b in batches]) for name in names
    }
    return replace(first, **joined)
