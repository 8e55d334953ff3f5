"""A fitted predictor together with the space that it knows.

The folder is that of ``Predictor.save`` and one more file, ``space.json``: what
``Space.describe`` returns. With it a text form can be turned into a prediction. Where the labels
are known to come from stands in ``learnt_from.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasplatform import predictors
from nasplatform.atomic_io import replace_folder, require_own
from nasplatform.errors import PredictorError
from nasplatform.foreign import blaming, path_of, read_json
from nasplatform.predictors.base import FILES, Predictor
from nasplatform.spaces import Space, get_space

SPACE, LEARNT_FROM = "space.json", "learnt_from.json"
_TRIED = 16  # architectures


def save_predictor(
    predictor: Predictor,
    space: Space[Any],
    folder: Path | str,
    labels: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted predictor and its space; the folder appears whole or not at all.

    labels: where its labels come from, as JSON values: table, metric, epochs, unit.
    Raises PredictorError where something else than a predictor stands there.
    """
    home = path_of(folder, PredictorError)
    require_own(home, FILES, PredictorError)
    with replace_folder(home) as temporary:
        predictor.save(temporary)
        text = json.dumps(space.describe(), indent=2) + "\n"
        (temporary / SPACE).write_text(text, encoding="utf-8")
        if labels is not None:
            text = json.dumps(dict(labels), indent=2) + "\n"
            (temporary / LEARNT_FROM).write_text(text, encoding="utf-8")


def load_predictor(folder: Path | str) -> tuple[Predictor, Space[Any]]:
    """Read what ``save_predictor`` wrote; ``folder`` may also be that of a run.

    Raises PredictorError where none stands there or it is damaged.
    """
    given = path_of(folder, PredictorError)
    inside = given / "predictor"
    home = inside if inside.is_dir() else given
    predictor = predictors.load_predictor(home)
    with blaming(home / SPACE, PredictorError, "does not say which space it knows"):
        space = get_space(**read_json(home / SPACE))
    return predictor, space


def learnt_from(folder: Path | str) -> dict[str, Any]:
    """Return where the labels of a saved predictor come from; nothing where that is not known."""
    given = path_of(folder, PredictorError)
    home = given / "predictor" if (given / "predictor").is_dir() else given
    path = home / LEARNT_FROM
    if not path.is_file():
        return {}
    with blaming(path, PredictorError):
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("expected keys and values")
        return found


def try_out(predictor: Predictor, space: Space[Any]) -> None:
    """Predict once; raise PredictorError for a predictor that cannot, or says what is no number."""
    some = space.sample(_TRIED, np.random.default_rng(0))
    said = predictor.predict(space.graphs(some))
    if not (np.isfinite(said.mean).all() and np.isfinite(said.std).all()):
        raise PredictorError(f"predictor {predictor.name!r} predicts values that are not finite")
