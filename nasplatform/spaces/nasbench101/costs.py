"""Exact channels, parameters and FLOPs of every vertex of every cell of a skeleton."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform.spaces.nasbench101.cells import CONV1X1, CONV3X3, MAXPOOL3X3


class Skeleton(BaseModel):
    """The network around the cell; the defaults are the benchmark's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stem_channels: int = Field(128, ge=1, description="output channels of the 3x3 stem")
    stacks: int = Field(3, ge=1, description="stacks; channels double and maps halve between them")
    modules_per_stack: int = Field(3, ge=1, description="cells in each stack")
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
    n_cells = len(skeleton.stages)
    shape = (len(ops), n_cells, ops.shape[1])
    channels, flops = np.zeros(shape, np.int32), np.zeros(shape, np.int64)
    params = np.zeros(shape, np.int64)
    width, (colours, height, side) = skeleton.stem_channels, skeleton.input_shape
    total_flops = np.full(len(ops), 2 * 9 * colours * width * height * side, np.int64)
    total_params = np.full(len(ops), 9 * colours * width + 2 * width, np.int64)
    incoming = skeleton.stem_channels
    for cell, stage in enumerate(skeleton.stages):
        outgoing = skeleton.stem_channels << stage
        area = (height >> stage) * (side >> stage)
        same = cell and outgoing == incoming and skeleton.stages[cell - 1] == stage
        if same and cell > 1 and skeleton.stages[cell - 2] == stage:  # a copy of the one before
            for array in (channels, flops, params):
                array[:, cell] = array[:, cell - 1]
        else:
            channels[:, cell] = vertex_channels(adjacency, ops, incoming, outgoing)
            per_vertex = _vertex_costs(adjacency, ops, channels[:, cell], area)
            flops[:, cell], params[:, cell] = per_vertex
        incoming = outgoing
    total_flops += flops.sum((1, 2)) + 2 * incoming * skeleton.classes
    total_params += params.sum((1, 2)) + (incoming + 1) * skeleton.classes
    return Costs(channels, flops, params, total_flops, total_params)


def vertex_channels(
    adjacency: NDArray[np.uint8], ops: NDArray[np.int8], incoming: int, outgoing: int
) -> NDArray[np.int32]:
    """Return (B, 7) channels that leave each vertex of a cell.

    The output's channels are split over the interior vertices that feed it, the remainder going
    to the first ones; every other vertex is as wide as the widest that it feeds.
    """
    n = ops.shape[1]
    channels = np.zeros(ops.shape, np.int32)
    feeds_output = adjacency[:, 1:-1, -1].astype(np.int32)
    feeders = np.maximum(feeds_output.sum(1, keepdims=True), 1)
    extra = np.cumsum(feeds_output, axis=1) <= outgoing % feeders
    channels[:, 1:-1] = feeds_output * (outgoing // feeders + extra)
    for vertex in range(n - 3, 0, -1):
        widest = (adjacency[:, vertex, 1:-1] * channels[:, 1:-1]).max(1)
        channels[:, vertex] = np.where(adjacency[:, vertex, -1], channels[:, vertex], widest)
    channels[:, 0], channels[:, -1] = incoming, outgoing
    return channels


def _vertex_costs(
    adjacency: NDArray[np.uint8], ops: NDArray[np.int8], channels: NDArray[np.int32], area: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return FLOPs and parameters (B, 7) of one cell on maps of ``area`` pixels."""
    width = channels.astype(np.int64)
    incoming = width[:, :1]
    projected = adjacency[:, 0].astype(np.int64)
    taps = np.select([ops == CONV3X3, ops == CONV1X1], [9, 1], 0)
    weights = projected * incoming * width + taps * width**2
    norms = 2 * width * (projected + (taps > 0))
    meeting = np.maximum(adjacency.sum(1, dtype=np.int64) - 1, 0)
    # What flows into the output from the interior is concatenated: it adds at most the projection.
    meeting[:, -1] = projected[:, -1] * (adjacency[:, 1:-1, -1].any(1))
    pooling = np.where(ops == MAXPOOL3X3, 9, 0)
    flops = 2 * weights * area + (meeting + pooling) * width * area
    return flops, weights + norms
