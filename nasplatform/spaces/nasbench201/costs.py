"""Exact channels, parameters and FLOPs of every node of every cell of a skeleton."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from nasplatform.spaces.nasbench201.cells import N_NODES, VOCABULARY


class Skeleton(BaseModel):
    """The network around the cell; the defaults are the benchmark's own for CIFAR-10."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stem_channels: int = Field(16, ge=1, le=8192, description="output channels of the 3x3 stem")
    stages: int = Field(3, ge=1, le=16, description="stages; a residual block halves the maps")
    cells_per_stage: int = Field(5, ge=1, le=256, description="searched cells in each stage")
    input_shape: tuple[int, int, int] = Field((3, 32, 32), description="channels, height, width")
    classes: int = Field(10, ge=2, description="outputs of the classifier")

    @field_validator("input_shape")
    @classmethod
    def _is_an_image(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1:
            raise ValueError(f"input_shape {shape} must be three positive numbers")
        return shape

    @property
    def stage_of_cell(self) -> tuple[int, ...]:
        """The stage of each searched cell."""
        return tuple(s for s in range(self.stages) for _ in range(self.cells_per_stage))

    def width(self, stage: int) -> int:
        """Channels in a stage."""
        return self.stem_channels << stage

    def area(self, stage: int) -> int:
        """Pixels of a map in a stage; a side of odd length is halved upwards."""
        _, height, width = self.input_shape
        return -(-height >> stage) * -(-width >> stage)


class Costs(NamedTuple):
    """channels (B, C, 8) int32; flops and params (B, C, 8) int64; totals (B,) int64."""

    channels: NDArray[np.int32]
    flops: NDArray[np.int64]
    params: NDArray[np.int64]
    total_flops: NDArray[np.int64]
    total_params: NDArray[np.int64]


def count(ops: NDArray[np.int8], skeleton: Skeleton) -> Costs:
    """Count a population of graphs, ops (B, 8).

    Every operation is charged as labelled, also where nothing that it computes reaches the
    output, because the published parameters and FLOPs are counted so. The published figure is
    in millions of multiply-adds of convolutions and of the classifier; ``total_flops`` is twice
    that, two FLOPs per multiply-add. Additions, pooling, normalisation and ReLU cost nothing.
    Parameters count batch normalisation's two vectors.
    """
    stages = np.array(skeleton.stage_of_cell)
    widths = skeleton.stem_channels << stages  # (C,)
    areas = np.array([skeleton.area(stage) for stage in stages])
    taps = np.array([op.kernel**2 if op.kind == "conv" else 0 for op in VOCABULARY])
    weights = taps * widths[:, None] ** 2  # (C, operations)
    norms = 2 * widths[:, None] * (taps > 0)
    params = (weights + norms).astype(np.int64)[:, ops].transpose(1, 0, 2)
    flops = (2 * weights * areas[:, None]).astype(np.int64)[:, ops].transpose(1, 0, 2)
    channels = np.broadcast_to(widths.astype(np.int32)[:, None], params.shape).copy()
    around_params, around_flops = _around(skeleton)
    return Costs(
        channels,
        flops,
        params,
        flops.sum((1, 2)) + around_flops,
        params.sum((1, 2)) + around_params,
    )


def resolution(skeleton: Skeleton, count: int) -> NDArray[np.int32]:
    """Return (B, C, 8) the longer side of the maps in pixels, the same for all of B cells."""
    longer = max(skeleton.input_shape[1:])
    column = np.array([-(-longer >> stage) for stage in skeleton.stage_of_cell], np.int32)
    return np.broadcast_to(column[:, None], (count, len(column), N_NODES))


def _around(skeleton: Skeleton) -> tuple[int, int]:
    """Return parameters and FLOPs of stem, reduction blocks, last norm and classifier."""
    colours, stem = skeleton.input_shape[0], skeleton.width(0)
    last = skeleton.width(skeleton.stages - 1)
    params = 9 * colours * stem + 2 * stem + 2 * last + (last + 1) * skeleton.classes
    macs = 9 * colours * stem * skeleton.area(0) + last * skeleton.classes
    for stage in range(1, skeleton.stages):
        narrow, wide = skeleton.width(stage - 1), skeleton.width(stage)
        weights = 9 * narrow * wide + 9 * wide * wide + narrow * wide  # two 3x3 and the shortcut
        params += weights + 4 * wide
        macs += weights * skeleton.area(stage)
    return params, 2 * macs
