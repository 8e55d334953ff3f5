"""What a version says of itself, and how it is read from a file that anybody may have changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplatform.errors import PredictorError
from nasplatform.foreign import blaming, read_json

_REQUIRED = frozenset({"card.json", "state.safetensors", "space.json"})


class BrokenVersionError(PredictorError):
    """A version that is there and cannot be loaded."""


class VersionFacts(BaseModel):
    """The content of ``version.json``; a folder without that file knows nothing of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    published: str | None = Field(None, max_length=64, description="date and time, UTC")
    n_labels: int | None = Field(None, ge=0)
    origin: dict[str, Any] = Field(default_factory=dict, description="where it comes from")
    files: dict[str, str] = Field(default_factory=dict, description="name -> sha256")

    @model_validator(mode="before")
    @classmethod
    def _can_be_told(cls, values: Any) -> Any:
        """Refuse what JSON cannot carry to a client, e.g. NaN and halves of characters."""
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
        return values


def read_facts(path: Path) -> VersionFacts:
    """Read ``version.json``; BrokenVersionError where it is damaged or leaves a file unsigned."""
    with blaming(path, BrokenVersionError, "cannot be read"):
        try:
            values = read_json(path)
        except FileNotFoundError:
            return VersionFacts()
        facts = VersionFacts.model_validate(values)
        missing = sorted(_REQUIRED - facts.files.keys())
        if missing:
            raise BrokenVersionError(f"{path}: has no digest of {missing[0]}")
        return facts
