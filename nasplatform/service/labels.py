"""Measured results: the labels of a version, and the log of those that clients reported."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasplatform.atomic_io import replace_file
from nasplatform.errors import PredictorError
from nasplatform.foreign import blaming, read_bytes, require_regular
from nasplatform.parquet import read_bounded
from nasplatform.spaces.base import Population, Space

LABELS = "labels.parquet"
_COLUMNS = ["architecture", "score"]
_LARGEST = 1 << 30  # bytes of reported results
_FAR = 100  # ranges of the labels; 94.2 among fractions is a percentage


@dataclass(frozen=True)
class Labels:
    """Text forms of measured architectures and their scores (B,), higher is better."""

    texts: list[str]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.texts)

    def joined(self, other: Labels) -> Labels:
        """Return both, these first."""
        return Labels(self.texts + other.texts, np.concatenate([self.scores, other.scores]))

    def far_from(self, score: float) -> str | None:
        """Return why a score is hardly one of the same unit as these; None where it may be."""
        low, high = float(self.scores.min()), float(self.scores.max())
        if abs(score - (low + high) / 2) <= _FAR * (high - low):
            return None
        return (
            f"score {score:g} is far outside of the labels, {low:g} to {high:g}: report it in "
            f"their unit"
        )

    def since(self, count: int) -> Labels:
        """Return all but the first ``count``."""
        return Labels(self.texts[count:], self.scores[count:])

    def averaged(self, space: Space[Any]) -> tuple[Population[Any], NDArray[np.float64]]:
        """Return each architecture once with the mean of its scores, in order of appearance.

        Raises PredictorError for a text that is none of the space.
        """
        population, errors = space.parse_many(self.texts)
        if errors:
            index = min(errors)
            raise PredictorError(f"label {index}: {errors[index]}")
        _, first, group = np.unique(population.keys, return_index=True, return_inverse=True)
        means = np.bincount(group, self.scores) / np.bincount(group)
        order = np.argsort(first)
        chosen = population[first[order]]
        assert isinstance(chosen, Population)
        return chosen, means[order]


def write_labels(labels: Labels, path: Path) -> None:
    """Write labels as parquet."""
    frame = pd.DataFrame({"architecture": labels.texts, "score": labels.scores})
    with replace_file(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_labels(path: Path) -> Labels:
    """Read the columns ``architecture`` and ``score``, also of the evaluations of a run.

    Evaluations that failed, and trainings that were given up, are left out: they are no labels.
    """
    with blaming(path, PredictorError, "holds no labels"):
        require_regular(path)
        frame = read_bounded(path, (*_COLUMNS, "stopped")).to_pandas()
        if "stopped" in frame:
            frame = frame[frame["stopped"].isna()]
        frame = frame[_COLUMNS].dropna()
        scores = frame["score"].to_numpy(np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("a score is not finite")
        return Labels([str(text) for text in frame["architecture"]], scores)


class ReportedResults:
    """An append-only file of JSON lines; a line that a crash tore is not read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reported.jsonl"

    def append(self, entries: Iterable[tuple[str, float]], by: str) -> None:
        """Add (text, score) pairs, on the disk when this returns."""
        lines = [json.dumps({"architecture": t, "score": s, "by": by}) for t, s in entries]
        if self.path.exists():
            require_regular(self.path)  # nobody may ever read what is written to a pipe
        with self.path.open("ab") as file:
            # A leading line break sets the lines apart from one that a crash tore.
            file.write(("\n" + "\n".join(lines) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Labels:
        """Return everything that was reported, oldest first."""
        try:
            lines = read_bytes(self.path, _LARGEST).split(b"\n")
        except FileNotFoundError:
            lines = []
        entries = [entry for line in lines if line and (entry := _entry(line)) is not None]
        return Labels([t for t, _ in entries], np.array([s for _, s in entries], np.float64))


def _entry(line: bytes) -> tuple[str, float] | None:
    try:
        value = json.loads(line)
        text, score = value["architecture"], float(value["score"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (text, score) if isinstance(text, str) and math.isfinite(score) else None
