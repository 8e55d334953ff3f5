"""The registered network ``vit``: any visual transformer by its text or by the name of a family."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.architecture import VisionTransformer
from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.network import Network
from nasplatform.spaces.vit.text import parse_text
from nasplatform.spaces.vit.validation import validate


class VitOptions(BaseModel):
    """Options of the network ``vit``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    """A family, e.g. ``deit-ti``, or a text, e.g. ``average/conv4s4+w64+learned:4*h2w64-mlp4``;
    it need not lie in a sub-space."""
    input_shape: tuple[int, int, int] = (3, 224, 224)
    """Channels, height, width."""
    classes: int = Field(default=1000, ge=2)
    """Outputs of the classifier."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, said: str) -> str:
        try:
            found(said)
        except ArchitectureError as error:
            raise ValueError(
                f"{error}, or the name of a family (`nasplatform spaces families vit`)"
            ) from None
        return said

    @model_validator(mode="after")
    def _fits(self) -> VitOptions:
        try:
            validate(found(self.architecture), self.input_shape)
        except ArchitectureError as error:
            raise ValueError(str(error)) from None
        return self


def found(said: str) -> VisionTransformer:
    """Return the family of this name, or what the text says; raise ArchitectureError."""
    known = {family.name: family.architecture for family in families()}
    return known[said] if said in known else parse_text(said)


def vit(options: VitOptions) -> Network:
    """Build a visual transformer of the survey (Han et al. 2023, section 2) as the space has it."""
    return Network(found(options.architecture), options.input_shape, options.classes)
