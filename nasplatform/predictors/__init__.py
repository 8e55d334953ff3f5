"""Performance predictors: fit on a few measured architectures, score any number of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasplatform import plugins
from nasplatform.predictors.base import Prediction, Predictor, read_card

__all__ = ["Prediction", "Predictor", "get_predictor", "load_predictor"]


def get_predictor(name: str, seed: int = 0, **options: Any) -> Predictor:
    """Make a predictor by its registered name, not fitted yet.

    Raises PluginError for an unknown name and ConfigError for options that it does not have.
    """
    kind: type[Predictor] = plugins.get("predictors", name)
    chosen = plugins.make_options(kind.Options, options, f"predictor {name!r}")
    predictor: Predictor = plugins.make("predictors", name, chosen, seed=seed)
    return predictor


def load_predictor(folder: Path | str) -> Predictor:
    """Read a saved predictor of whatever kind; raise PredictorError for a damaged folder."""
    kind: type[Predictor] = plugins.get("predictors", read_card(folder)["predictor"])
    return kind.load(folder)
