"""What images a network is for, as its files say it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from nasplatform.complaints import explain


class Images(BaseModel):
    """The mapping ``Structure.input``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    task: str
    data_sha256: str
    shape: list[PositiveInt] = Field(min_length=3, max_length=3)
    mean: list[float]
    std: list[float]
    white: float | None
    classes: PositiveInt
    class_names: list[str] | None = None

    @model_validator(mode="after")
    def _one_for_each(self) -> Images:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError("mean and std must have one number for each channel")
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError("class_names must be as many as classes")
        return self


def check_images(found: Any, shape: tuple[int, int, int], classes: int) -> Mapping[str, Any]:
    """Return what a file says of its images; raise ValueError where it does not fit a network.

    shape: (c, h, w) that the network takes; classes: logits that it makes.
    """
    try:
        images = Images.model_validate(found)
    except ValidationError as error:
        raise ValueError(explain(error, Images, "input", found)) from None
    if tuple(images.shape) != shape or images.classes != classes:
        raise ValueError(
            f"it says images of {images.shape} in {images.classes} classes, "
            f"the network takes {list(shape)} and makes {classes} logits"
        )
    checked: Mapping[str, Any] = found
    return checked
