"""The one currency of everything downstream: a population of architectures as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import GraphError, PredictorError

Kind = Literal[
    "input", "output", "conv", "pool", "skip", "zero", "attention", "mlp", "embed", "block"
]
_LEARNT = ("conv", "attention", "mlp", "embed")
T = TypeVar("T")


@dataclass(frozen=True)
class Operation:
    """What an op id means, so that an encoding can reason without knowing the space.

    name:           the field's own name, e.g. ``conv3x3-bn-relu``.
    kind:           the family of the operation; ``block`` for one that is made of ``parts``.
    kernel, stride: side of the window in pixels and its step; 0 and 1 where there is no window.
                    Where the step is chosen per architecture, ``GraphBatch.resolution`` tells it.
    groups:         ``full`` where an output channel depends on all input channels, ``depthwise``
                    where on one, else the number of groups.
    expansion:      width inside the operation divided by that of its output.
    nonlinear:      whether a non-linearity is applied.
    normalised:     whether what passes is normalised to unit variance.
    norm:           over what: ``batch`` for each channel over images and positions, ``layer`` for
                    each position over channels, which leaves channels their means over images.
    activation:     which non-linearity, where one is applied.
    residual:       whether the input is added to the output, wherever both have the same shape.
    merge:          how a node combines the tensors that flow into it.
    projects:       whether every edge that leaves the node carries its own 1x1 convolution.
    parts:          the operations of a block, in order; empty for one that is a single operation.
    """

    name: str
    kind: Kind
    kernel: int = 0
    stride: int = 1
    groups: Literal["full", "depthwise"] | int = "full"
    expansion: float = 1.0
    nonlinear: bool = False
    normalised: bool = False
    norm: Literal["batch", "layer"] = "batch"
    activation: Literal["relu", "gelu"] = "relu"
    residual: bool = False
    merge: Literal["sum", "concat"] = "sum"
    projects: bool = False
    parts: tuple[Operation, ...] = ()

    @property
    def mixes_channels(self) -> bool:
        """Whether an output channel depends on all input channels."""
        if self.parts:
            return any(part.mixes_channels for part in self.parts)
        return self.kind in _LEARNT and self.groups in ("full", 1)

    @property
    def steps(self) -> tuple[Operation, ...]:
        """What happens in turn: the parts, or the operation itself."""
        return self.parts or (self,)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Operation:
        """Read what ``dataclasses.asdict`` wrote; raise TypeError for anything else."""
        parts = tuple(cls.from_json(part) for part in value.get("parts", ()))
        return cls(**{**value, "parts": parts})


@dataclass(frozen=True)
class Attribute:
    """A numeric choice of a node: its name, unit (``px``, ``channels``, or empty) and range."""

    name: str
    unit: str
    low: float
    high: float


_DIMENSIONS: Mapping[str, tuple[str, type[np.generic]]] = {
    "adjacency": ("BNN", np.uint8),
    "ops": ("BN", np.int8),
    "channels": ("BCN", np.int32),
    "flops": ("BCN", np.int64),
    "params": ("BCN", np.int64),
    "total_flops": ("B", np.int64),
    "total_params": ("B", np.int64),
    "resolution": ("BCN", np.int32),
    "attributes": ("BNA", np.float32),
}


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
    resolution:   (B, C, N) int32, longer side in pixels (or tokens) of the map that leaves the
                  node; it means nothing for padding.
    positional:   whether the place of a node means something, as that of a block in a chain.
    attribute_schema: name, unit and range of each of the A attributes.
    attributes:   (B, N, A) float32, NaN where a node has none; None where A is 0.

    Raises GraphError for an array of another shape or type, and for attributes out of range.
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
    resolution: NDArray[np.int32]
    positional: bool = False
    attribute_schema: tuple[Attribute, ...] = ()
    attributes: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that are not what the batch promises."""
        if (self.attributes is None) != (not self.attribute_schema):
            given = "no" if self.attributes is None else "undescribed"
            raise GraphError(
                f"graphs of space {self.space!r}: {given} attributes given for a schema of "
                f"{len(self.attribute_schema)}"
            )
        ops = np.asarray(self.ops)
        sizes = {
            "B": len(ops),
            "N": ops.shape[1] if ops.ndim == 2 else -1,
            "C": len(self.stages),
            "A": len(self.attribute_schema),
        }
        for name, array in self._arrays().items():
            letters, kind = _DIMENSIONS[name]
            shape = tuple(sizes[letter] for letter in letters)
            if array.shape != shape or array.dtype != kind:
                raise GraphError(
                    f"graphs of space {self.space!r}: {name} is {array.dtype} {array.shape}, "
                    f"expected {np.dtype(kind)} {shape}, ({', '.join(letters)})"
                )
        self._check_attributes()

    def _check_attributes(self) -> None:
        if self.attributes is None or not len(self):
            return
        for place, attribute in enumerate(self.attribute_schema):
            values = self.attributes[:, :, place]
            lowest, highest = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
            if lowest < attribute.low or highest > attribute.high:
                wrong = lowest if lowest < attribute.low else highest
                raise GraphError(
                    f"graphs of space {self.space!r}: attribute {attribute.name!r} is {wrong:g}, "
                    f"expected {attribute.low:g} to {attribute.high:g}, or NaN for a node that "
                    f"has none"
                )

    def __repr__(self) -> str:
        return (
            f"<graphs of {len(self):,} architectures of space {self.space}, "
            f"{self.n_nodes} nodes in each of {self.n_cells} cells>"
        )

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

    @property
    def kind(self) -> tuple[object, ...]:
        """What two batches have in common that an encoding reads alike."""
        return (
            self.vocabulary,
            self.n_nodes,
            self.stages,
            self.positional,
            self.attribute_schema,
        )

    def __getitem__(self, index: slice | NDArray[np.integer] | NDArray[np.bool_]) -> GraphBatch:
        """Return the sub-batch of a slice, an index array or a mask."""
        return replace(self, **{name: value[index] for name, value in self._arrays().items()})

    def derived(self, make: Callable[[GraphBatch], T]) -> T:
        """Return ``make(batch)``, made once and kept for as long as the batch lives."""
        kept: dict[object, T] = self.__dict__.setdefault("_derived", {})
        if make not in kept:
            kept.setdefault(make, make(self))
        return kept[make]

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields; what was derived is made anew where it is asked for."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def operation_mask(self, **traits: object) -> NDArray[np.bool_]:
        """Return (B, N): nodes whose operation has all these traits, e.g. ``kind="conv"``."""
        wanted = [
            all(getattr(op, key) == value for key, value in traits.items())
            for op in self.vocabulary
        ]
        return np.array([*wanted, False])[self.ops]  # op -1, padding, reads the last entry

    def require_same_kind(self, other: GraphBatch) -> None:
        """Raise PredictorError unless ``other`` has this batch's vocabulary, shape and schema."""
        if self.kind != other.kind:
            raise PredictorError(
                f"graphs of space {other.space!r} ({other._words()}) given where space "
                f"{self.space!r} ({self._words()}) was expected"
            )

    def _words(self) -> str:
        names = ", ".join(attribute.name for attribute in self.attribute_schema)
        told = f", attributes {names}" if names else ""
        return f"{self.n_nodes} nodes, {self.n_cells} cells{told}"

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
