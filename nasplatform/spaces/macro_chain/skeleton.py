"""What may be chosen, and the network around the chain."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from nasplatform.spaces.macro_chain.chains import (
    MAX_DEPTH,
    MAX_EXPANSION,
    MAX_STAGES,
    MAX_WIDTH,
    Block,
)

_KERNELS, _STRIDES = (3, 5, 7), (1, 2)
_Choices = tuple[tuple[int, ...], ...]


class Skeleton(BaseModel):
    """Stem, stages of inverted residual blocks, global average pooling and a linear classifier.

    The defaults are a MobileNetV2 for CIFAR-10 with the choices of ProxylessNAS (Cai et al., ICLR
    2019) for each block.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_shape: tuple[int, int, int] = Field((3, 32, 32), description="channels, height, width")
    classes: int = Field(10, ge=2, description="outputs of the classifier")
    stem_channels: int = Field(16, ge=1, le=8192, description="output channels of the 3x3 stem")
    stem_stride: int = Field(1, ge=1, le=2, description="stride of the stem; 2 halves the maps")
    widths: tuple[tuple[int, ...], ...] = Field(
        ((16, 24), (24, 32, 40), (40, 48, 64), (64, 80, 96), (96, 128, 160)),
        description="for each stage the channels to choose from",
    )
    strides: tuple[tuple[int, ...], ...] = Field(
        ((1,), (1, 2), (2,), (1,), (1, 2)),
        validate_default=True,  # whether the maps are large enough depends on the input
        description="for each stage the strides of its first block to choose from, 1 or 2",
    )
    max_depth: int = Field(4, ge=1, le=MAX_DEPTH, description="most blocks in a stage")
    kernels: tuple[int, ...] = Field((3, 5, 7), description="depthwise windows to choose from")
    expansions: tuple[int, ...] = Field((3, 6), description="widenings to choose from")

    @field_validator("input_shape")
    @classmethod
    def _is_an_image(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1:
            raise ValueError("expected three positive numbers")
        return shape

    @field_validator("widths")
    @classmethod
    def _are_widths(cls, widths: _Choices) -> _Choices:
        if not 1 <= len(widths) <= MAX_STAGES:
            raise ValueError(f"{len(widths)} stages, expected 1 to {MAX_STAGES}")
        for stage, choices in enumerate(widths, 1):
            _require_choices(choices, range(1, MAX_WIDTH + 1), f"stage {stage}: ")
        return widths

    @field_validator("kernels")
    @classmethod
    def _are_kernels(cls, kernels: tuple[int, ...]) -> tuple[int, ...]:
        _require_choices(kernels, _KERNELS)
        return kernels

    @field_validator("expansions")
    @classmethod
    def _are_expansions(cls, expansions: tuple[int, ...]) -> tuple[int, ...]:
        _require_choices(expansions, range(1, MAX_EXPANSION + 1))
        return expansions

    @field_validator("strides")
    @classmethod
    def _are_strides(cls, strides: _Choices, info: ValidationInfo) -> _Choices:
        for stage, choices in enumerate(strides, 1):
            _require_choices(choices, _STRIDES, f"stage {stage}: ")
        known = info.data
        if "widths" in known and len(strides) != len(known["widths"]):
            raise ValueError(f"{len(strides)} stages, expected {len(known['widths'])} as in widths")
        if "input_shape" in known and "stem_stride" in known:
            _require_maps(strides, min(known["input_shape"][1:]), known["stem_stride"])
        return strides

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.widths)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every block that may be chosen, by kernel, then by expansion."""
        return tuple(Block(k, e) for k in self.kernels for e in self.expansions)

    @property
    def stem_sides(self) -> tuple[int, int]:
        """Height and width of the maps that leave the stem."""
        _, height, width = self.input_shape
        return -(-height // self.stem_stride), -(-width // self.stem_stride)


def _require_choices(
    given: tuple[int, ...], allowed: range | tuple[int, ...], where: str = ""
) -> None:
    if not given or list(given) != sorted(set(given)):
        raise ValueError(f"{where}expected one or more rising numbers")
    wrong = next((value for value in given if value not in allowed), None)
    if wrong is not None:
        known = f"{allowed[0]} to {allowed[-1]}"
        known = known if isinstance(allowed, range) else ", ".join(map(str, allowed))
        raise ValueError(f"{where}{wrong} is not among {known}")


def _require_maps(strides: _Choices, side: int, stem_stride: int) -> None:
    """Refuse a stride of 2 on maps of one pixel: it would be no choice at all."""
    steps = [("the stem", stem_stride)]
    steps += [(f"stage {stage}", max(choices)) for stage, choices in enumerate(strides, 1)]
    for where, stride in steps:
        if stride == 2 and side == 1:
            raise ValueError(
                f"{where} halves maps of 1 pixel; give fewer strides of 2, or a larger input_shape"
            )
        side = -(-side // stride)
