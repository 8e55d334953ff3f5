"""A fitted predictor together with the space that it knows.

The folder is that of ``Predictor.save`` and one more file, ``space.json``: what
``Space.describe`` returns. With it a text form can be turned into a prediction.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nasplatform import predictors
from nasplatform.atomic_io import replace_folder
from nasplatform.errors import PredictorError
from nasplatform.predictors.base import Predictor
from nasplatform.spaces import Space, get_space

SPACE = "space.json"


def save_predictor(predictor: Predictor, space: Space[Any], folder: Path | str) -> None:
    """Write a fitted predictor and its space; the folder appears whole or not at all."""
    with replace_folder(Path(folder)) as temporary:
        predictor.save(temporary)
        text = json.dumps(space.describe(), indent=2) + "\n"
        (temporary / SPACE).write_text(text, encoding="utf-8")


def load_predictor(folder: Path | str) -> tuple[Predictor, Space[Any]]:
    """Read what ``save_predictor`` wrote; ``folder`` may also be that of a run.

    Raises PredictorError where none stands there or it is damaged.
    """
    inside = Path(folder) / "predictor"
    home = inside if inside.is_dir() else Path(folder)
    predictor = predictors.load_predictor(home)
    try:
        described = json.loads((home / SPACE).read_text(encoding="utf-8"))
        space = get_space(**described)
    except (OSError, ValueError, TypeError) as error:
        raise PredictorError(
            f"{home / SPACE}: does not say which space it knows: {error}"
        ) from None
    return predictor, space
