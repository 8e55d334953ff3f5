"""From the engine's arrays to the body of an answer, without a pydantic object per item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from nasplatform.service.models import Model, PredictionOutput
from nasplatform.service.schemas import ItemError

_TOLD = 100  # errors of an answer that are told in words
_MORE = "no architecture; ask for it alone to be told why"


def predict_body(
    model: Model,
    answers: PredictionOutput,
    include: Sequence[str],
    layout: str,
    note: str | None = None,
) -> bytes:
    """Return the JSON of a ``PredictResponse``; what is not finite becomes null."""
    columns = {"mean": _plain(answers.mean, answers.errors)}
    for name in include:
        values = getattr(answers, name)
        columns[name] = (
            [None] * len(answers.mean) if values is None else _plain(values, answers.errors)
        )
    ranking = model.ranking
    body: dict[str, Any] = {
        "predictor": model.version.name,
        "version": model.version.number,
        "count": len(answers.mean),
        "ranked_of": None if answers.rank is None or ranking is None else len(ranking.mean),
    }
    if layout == "columns":
        body["columns"] = columns
    else:
        body["results"] = _rows(columns, answers.errors)
    listed = told(answers.errors)
    if layout != "columns":  # the row tells it: nothing is said twice
        listed = [ItemError(index=error.index) for error in listed]
    body["errors"] = [error.model_dump(exclude_none=True) for error in listed]
    if note is not None:
        body["note"] = note
    return to_json(body, inf_nan_mode="null")


def told(errors: Mapping[int, str]) -> list[ItemError]:
    """Return what is wrong with each item, in words for the first ones."""
    return [
        ItemError(index=index, detail=errors[index] if place < _TOLD else None)
        for place, index in enumerate(sorted(errors))
    ]


def binary_body(answers: PredictionOutput, include: Sequence[str]) -> bytes:
    """Return the mean and what is included, one after the other, each N little-endian float64.

    Errors are NaN; so is a rank that is not known yet.
    """
    nothing = np.full(len(answers.mean), np.nan)
    columns = [answers.mean, *(getattr(answers, name) for name in include)]
    table = np.array([nothing if column is None else column for column in columns], "<f8")
    table[:, list(answers.errors)] = np.nan
    return table.tobytes()


def _plain(values: NDArray[Any], errors: dict[int, str]) -> list[Any]:
    plain: list[Any] = values.tolist()
    for index in errors:
        plain[index] = None
    return plain


def _rows(columns: dict[str, list[Any]], errors: dict[int, str]) -> list[dict[str, Any]]:
    names = ("index", *columns)
    count = range(len(columns["mean"]))
    rows = [
        dict(zip(names, values, strict=True))
        for values in zip(count, *columns.values(), strict=True)
    ]
    for place, index in enumerate(sorted(errors)):
        rows[index] = {"index": index, "error": errors[index] if place < _TOLD else _MORE}
    return rows


def finite(values: NDArray[np.float64]) -> list[float | None]:
    """Return floats with null for what is not finite."""
    return [value if np.isfinite(value) else None for value in values.tolist()]
