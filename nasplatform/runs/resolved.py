"""The file of a run as resolved: written into its folder, and read back by everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nasplatform import faults
from nasplatform.complaints import explain
from nasplatform.config import Choice, CompressionConfig, Provenance, SearchConfig
from nasplatform.errors import RunError
from nasplatform.foreign import blaming, read_text
from nasplatform.yaml_source import LARGEST, quick_yaml, yaml_complaint


class ResolvedSearch(SearchConfig):
    """A search with every default written out, and where its numbers come from."""

    space: Choice
    provenance: Provenance

    @property
    def about(self) -> dict[str, str | int | None]:
        """What tells runs apart in a list; None for what this kind has not."""
        return {
            "space": self.space.name,
            "table": self.evaluator.options.get("table"),
            "sampler": self.search.sampler.name,
            "predictor": None if self.predictor is None else self.predictor.name,
            "budget": self.search.budget,
            "network": None,
        }


class ResolvedCompression(CompressionConfig):
    """A compression with every default written out, and where its numbers come from."""

    provenance: Provenance

    @property
    def about(self) -> dict[str, str | int | None]:
        """What tells runs apart in a list; None for what this kind has not."""
        searched = dict.fromkeys(("space", "table", "sampler", "predictor", "budget"))
        return {**searched, "network": self.network.title}


ResolvedConfig = ResolvedSearch | ResolvedCompression


def dump_resolved(config: ResolvedConfig) -> dict[str, Any]:
    """Return plain values of what is set; they are a file that runs again to the same result."""
    values = config.model_dump(mode="json")
    return {key: value for key, value in values.items() if value not in (None, [])}


def read_resolved(file: Path) -> ResolvedConfig:
    """Read the file of a run; raise RunError where it is missing, damaged or of another version."""
    try:
        values = quick_yaml(read_text(file, LARGEST))
    except FileNotFoundError:
        raise RunError(f"{file.parent}: no run stands here ({file.name} is missing)") from None
    except yaml.YAMLError as error:
        raise RunError(yaml_complaint(error, file)) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: cannot be read ({faults.short(error)})") from None
    if not isinstance(values, dict):
        raise RunError(f"{file}: holds no run")
    model = ResolvedCompression if "network" in values else ResolvedSearch
    advice = "remove the folder or run it anew with force=True"
    with blaming(file, RunError, "not of this version, or damaged", f"; {advice}"):
        try:
            return model.model_validate(values)
        except ValidationError as error:
            words = explain(error, model, "", values)
            raise RunError(f"{file}: not of this version, or damaged ({words}); {advice}") from None
