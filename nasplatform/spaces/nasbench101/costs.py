"""Exact channels, parameters and FLOPs of every vertex of every cell of a skeleton."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform.spaces.nasbench101.cells import CONV1X1, CONV3X3, MAXPOOL3X3

_VERTICES = 7
_TAPS = np.zeros(256, np.int64)  # of the window of an operation; padding is the last, -1
_TAPS[[CONV3X3, CONV1X1]] = 9, 1


class Skeleton(BaseModel):
    """The network around the cell; the defaults are the benchmark's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stem_channels: int = Field(128, ge=1, le=8192, description="output channels of the 3x3 stem")
    stacks: int = Field(3, ge=1, le=16, description="stacks; channels double, maps halve between")
    modules_per_stack: int = Field(3, ge=1, le=256, description="cells in each stack")
    input_shape: tuple[int, int, int] = Field((3, 32, 32), description="channels, height, width")
    classes: int = Field(10, ge=2, description="outputs of the classifier")

    @model_validator(mode="after")
    def _maps_survive_the_pooling(self) -> Skeleton:
        channels, height, width = self.input_shape
        if channels < 1 or min(height, width) >> (self.stacks - 1) < 1:
            raise ValueError(
                f"input_shape {self.input_shape} is too small for {self.stacks} stacks: each one "
                f"after the first halves the maps"
            )
        return self

    @property
    def stages(self) -> tuple[int, ...]:
        """The stack of each cell."""
        return tuple(s for s in range(self.stacks) for _ in range(self.modules_per_stack))


class Costs(NamedTuple):
    """channels (B, C, 7) int32; flops and params (B, C, 7) int64; totals (B,) int64."""

    channels: NDArray[np.int32]
    flops: NDArray[np.int64]
    params: NDArray[np.int64]
    total_flops: NDArray[np.int64]
    total_params: NDArray[np.int64]


def count(adjacency: NDArray[np.uint8], ops: NDArray[np.int8], skeleton: Skeleton) -> Costs:
    """Count a population of padded cells, adjacency (B, 7, 7) and ops (B, 7).

    A vertex is charged its operation, the 1x1 projection of an edge from the input, and the
    additions where several tensors meet; the output is charged the projection and the addition
    of an edge input -> output. Convolutions cost two FLOPs per multiply-add; a pooling window
    nine; batch normalisation and ReLU none. Parameters count batch normalisation's two vectors.
    Channels are those of ``compute_vertex_channels`` of google-research/nasbench.
    """
    width, (colours, height, side) = skeleton.stem_channels, skeleton.input_shape
    kinds = list(dict.fromkeys(_kinds_of_cells(skeleton)))
    which = [kinds.index(kind) for kind in _kinds_of_cells(skeleton)]
    incoming, outgoing, areas = (np.array(column) for column in zip(*kinds, strict=True))
    different = vertex_channels(adjacency, ops, incoming, outgoing)
    per_kind = _vertex_costs(adjacency, ops, different, areas)
    channels, (flops, params) = different[:, which], (costs[:, which] for costs in per_kind)
    last = int(outgoing[-1])
    stem = 9 * colours * width
    total_flops = flops.sum((1, 2)) + 2 * stem * height * side + 2 * last * skeleton.classes
    total_params = params.sum((1, 2)) + stem + 2 * width + (last + 1) * skeleton.classes
    return Costs(channels, flops, params, total_flops, total_params)


def resolution(skeleton: Skeleton, count: int) -> NDArray[np.int32]:
    """Return (B, C, 7) the longer side of the maps in pixels, the same for all of B cells."""
    sides = [max(skeleton.input_shape[1:]) >> stage for stage in skeleton.stages]
    column = np.array(sides, np.int32)[:, None]
    return np.broadcast_to(column, (count, len(sides), _VERTICES))


def _kinds_of_cells(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """Return channels in, channels out and pixels of each cell: most are copies of another."""
    _, height, side = skeleton.input_shape
    stages = skeleton.stages
    outgoing = [skeleton.stem_channels << stage for stage in stages]
    incoming = [skeleton.stem_channels, *outgoing[:-1]]
    areas = [(height >> stage) * (side >> stage) for stage in stages]
    return list(zip(incoming, outgoing, areas, strict=True))


def vertex_channels(
    adjacency: NDArray[np.uint8],
    ops: NDArray[np.int8],
    incoming: NDArray[np.int_],
    outgoing: NDArray[np.int_],
) -> NDArray[np.int32]:
    """Return (B, K, 7) channels that leave each vertex of cells of K widths, in and out (K,).

    The output's channels are split over the interior vertices that feed it, the remainder going
    to the first ones; every other vertex is as wide as the widest that it feeds.
    """
    n = ops.shape[1]
    wide = outgoing[:, None]
    channels = np.zeros((len(ops), len(outgoing), n), np.int32)
    feeds_output = adjacency[:, None, 1:-1, -1].astype(np.int32)
    feeders = np.maximum(feeds_output.sum(2, keepdims=True), 1)
    extra = np.cumsum(feeds_output, axis=2) <= wide % feeders
    channels[:, :, 1:-1] = feeds_output * (wide // feeders + extra)
    for vertex in range(n - 3, 0, -1):
        widest = (adjacency[:, None, vertex, 1:-1] * channels[:, :, 1:-1]).max(2)
        given = feeds_output[:, :, vertex - 1] > 0
        channels[:, :, vertex] = np.where(given, channels[:, :, vertex], widest)
    channels[:, :, 0], channels[:, :, -1] = incoming, outgoing
    return channels


def _vertex_costs(
    adjacency: NDArray[np.uint8],
    ops: NDArray[np.int8],
    channels: NDArray[np.int32],
    areas: NDArray[np.int_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return FLOPs and parameters (B, K, 7) of cells of channels (B, K, 7) and pixels (K,)."""
    width, area = channels.astype(np.int64), areas[:, None]
    incoming = width[:, :, :1]
    projected = adjacency[:, 0].astype(np.int64)
    taps, pooling = _TAPS[ops], np.where(ops == MAXPOOL3X3, 9, 0)
    meeting = np.maximum(adjacency.sum(1, dtype=np.int64) - 1, 0)
    # What flows into the output from the interior is concatenated: it adds at most the projection.
    meeting[:, -1] = projected[:, -1] * (adjacency[:, 1:-1, -1].any(1))
    weights = (projected[:, None] * incoming + taps[:, None] * width) * width
    norms = 2 * width * (projected + (taps > 0))[:, None]
    flops = (2 * weights + (meeting + pooling)[:, None] * width) * area
    return flops, weights + norms
