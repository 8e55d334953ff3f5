"""Options of the space: which sub-space, for which images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.choices import SubSpace
from nasplatform.spaces.vit.subspaces import SUBSPACES
from nasplatform.spaces.vit.validation import sides, validate

_Name = Literal[
    "autoformer-tiny",
    "autoformer-small",
    "autoformer-base",
    "pyramid",
    "hybrid",
    "digits",
    "pit-tiny",
]
_FIRST: _Name = "autoformer-tiny"


def _subspace(known: dict[str, Any]) -> SubSpace:
    return SUBSPACES[known.get("subspace", _FIRST)]  # an unknown one is refused by itself


class TransformerOptions(BaseModel):
    """A named sub-space, and the images and classes of its networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subspace: _Name = Field(_FIRST, description="what may be chosen")
    input_shape: tuple[int, int, int] = Field(
        default_factory=lambda known: _subspace(known).input_shape,
        description="channels, height, width; those that the sub-space is made for unless given",
    )
    classes: int = Field(
        default_factory=lambda known: _subspace(known).classes,
        ge=2,
        description="outputs of the classifier; those of the sub-space's images unless given",
    )

    @model_validator(mode="after")
    def _fits(self) -> TransformerOptions:
        if min(self.input_shape) < 1:
            raise ValueError("input_shape: expected three positive numbers")
        try:
            for row in _extremes(SUBSPACES[self.subspace], self.input_shape):
                validate(SUBSPACES[self.subspace].architecture(row), self.input_shape)
        except ArchitectureError as error:
            raise ValueError(
                f"sub-space {self.subspace!r} is not for images of input_shape "
                f"{self.input_shape[1]} x {self.input_shape[2]}: {error}"
            ) from error
        return self


def _extremes(subspace: SubSpace, input_shape: tuple[int, int, int]) -> Iterator[list[int]]:
    """Yield rows that have every choice once, on the smallest maps that entries can make."""
    smallest = [1] * len(subspace.decisions)
    for column, decision in enumerate(subspace.decisions):
        if decision.field == "depth":
            smallest[column] = len(decision.choices)
        elif decision.field == "entry" and decision.stage is not None:
            rows = [_with(smallest, column, at) for at in range(1, len(decision.choices) + 1)]

            def side(row: list[int], stage: int = decision.stage) -> int:
                return min(sides(subspace.architecture(row), input_shape)[stage])

            smallest = min(rows, key=side)
    yield smallest
    for column, decision in enumerate(subspace.decisions):
        if decision.field not in ("depth", "entry"):
            for place in range(2, len(decision.choices) + 1):
                yield _with(smallest, column, place)


def _with(row: list[int], column: int, place: int) -> list[int]:
    return [*row[:column], place, *row[column + 1 :]]
