"""The neighbours of Disout, on the same places: Dropout, Dropout2d and DropBlock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from nasplatform.stages.dataflow import FeaturePoint
from nasplatform.stages.regularisation.base import NoisyTraining, RegularisationOptions
from nasplatform.stages.regularisation.blocks import clipping, draw_keep_mask, kept_share
from nasplatform.stages.regularisation.injection import Noise


class DropoutOptions(RegularisationOptions):
    """Options of ``dropout`` and ``dropout2d``."""

    drop_prob: float = Field(default=0.1, gt=0, lt=1)
    """Share that is set to 0."""
    schedule: Literal["linear", "constant"] = "constant"
    """The probability grows from 0 over all steps, or is the same all the time."""


class DropBlockOptions(RegularisationOptions):
    """Options of ``dropblock``."""

    drop_prob: float = Field(default=0.1, gt=0, lt=1)
    """Share of a map that is set to 0 at the end of the schedule (section 4.1: 0.1)."""
    block: int = Field(default=7, ge=1)
    """Side of a block, clipped to smaller maps (section 4.1: 7)."""


class _Dropping(NoisyTraining):
    """Noise that sets a share ``drop_prob`` of a map to 0."""

    options: DropoutOptions | DropBlockOptions

    @property
    def prob(self) -> float:
        """Share of a map that gets noise at the end of the schedule."""
        return self.options.drop_prob


class Dropout(_Dropping):
    """Train with single elements of feature maps set to 0 (Srivastava et al. 2014)."""

    name: ClassVar[str] = "dropout"
    Options: ClassVar[type[RegularisationOptions]] = DropoutOptions
    options: DropoutOptions

    def noise(self, point: FeaturePoint) -> Noise:
        """Return torch's dropout."""
        return lambda features, prob, rng: functional.dropout(features, prob, training=True)


class Dropout2d(_Dropping):
    """Train with whole channels of feature maps set to 0 (Tompson et al. 2015)."""

    name: ClassVar[str] = "dropout2d"
    Options: ClassVar[type[RegularisationOptions]] = DropoutOptions
    options: DropoutOptions

    def noise(self, point: FeaturePoint) -> Noise:
        """Return torch's dropout of channels."""
        return lambda features, prob, rng: functional.dropout2d(features, prob, training=True)


class DropBlock(_Dropping):
    """Train with blocks of feature maps set to 0 (Ghiasi et al. 2018, arXiv 1810.12890)."""

    name: ClassVar[str] = "dropblock"
    Options: ClassVar[type[RegularisationOptions]] = DropBlockOptions
    options: DropBlockOptions

    def noise(self, point: FeaturePoint) -> Noise:
        """Return the dropping of blocks."""

        def drop(features: Tensor, prob: float, rng: Generator) -> Tensor:
            keep = draw_keep_mask(features, prob, self.options.block, rng)
            return features * keep / kept_share(keep)

        return drop

    def describe(self, points: Sequence[FeaturePoint]) -> tuple[dict[str, float], tuple[str, ...]]:
        """Say where blocks are clipped."""
        return {}, clipping(self.options.block, points)
