"""Architectures of a registered space and what was measured of them, from a user's file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks.imports.columns import Columns, read_columns
from nasplatform.errors import DataError
from nasplatform.spaces.base import Population, Space

ARCHITECTURE = "architecture"
SHOWN = 3  # bad rows that a message quotes


@dataclass(frozen=True)
class Measured:
    """B measured architectures as they stand in a file, isomorphic ones several times.

    scores: (B,) float64, finite.
    others: name -> (B,) further numbers, NaN where a cell was blank.
    text:   names of columns that hold no numbers.
    bad:    what is wrong with each row that was left out, in order of the file.
    """

    architectures: Population[Any]
    scores: NDArray[np.float64]
    others: Mapping[str, NDArray[np.float64]]
    text: tuple[str, ...]
    bad: Sequence[str]

    def averaged(self) -> tuple[Population[Any], NDArray[np.float64]]:
        """Return each architecture once with the mean of its scores, in order of appearance."""
        first, group = grouped(self.architectures)
        means = np.bincount(group, self.scores) / np.bincount(group)
        return self.architectures[first], means


def read_measured(
    file: Path,
    space: Space[Any],
    score: str,
    architecture: str | None = None,
    skip_bad: bool = False,
) -> Measured:
    """Read a file with a column of text forms and one of scores.

    architecture: name of the column of text forms; ``architecture`` where not given.
    skip_bad:     leave bad rows out instead of refusing the file.
    Raises DataError for a file without such columns, and for one with bad rows: their number,
    and the first of them by line and cause.
    """
    columns = read_columns(file)
    place = architecture or ARCHITECTURE
    try:
        texts, (scores, _) = columns[place], columns.numbers(score)
    except DataError as error:
        hint = "" if architecture else "; --architecture names that of the text forms"
        raise DataError(f"{file}: {error}{hint if place not in columns.cells else ''}") from None
    if (words := space.caution(texts)) is not None:
        warnings.warn(words, stacklevel=2)
    population, errors = space.parse_many(texts)
    others, text, wrong = _further(columns, {place, score})
    complaints = dict(columns.broken)
    good = np.ones(len(columns), bool)
    for row, cause in _complaints(columns, score, scores, errors, wrong):
        good[row] = False
        complaints.setdefault(columns.lines[row], cause)
    bad = [f"{columns.unit} {line}: {cause}" for line, cause in sorted(complaints.items())]
    if bad and not skip_bad:
        raise DataError(f"{file}: {quoted(bad, 'row')}; skip_bad=True leaves them out")
    parsed = np.ones(len(columns), bool)
    parsed[list(errors)] = False
    others = {name: values[good] for name, values in others.items()}
    return Measured(population[good[parsed]], scores[good], others, text, bad)


def quoted(bad: Sequence[str], what: str) -> str:
    """Return how many are bad, and the first of them."""
    count = f"1 bad {what}" if len(bad) == 1 else f"{len(bad):,} bad {what}s"
    more = f" (and {len(bad) - SHOWN:,} more)" if len(bad) > SHOWN else ""
    return f"{count}: {'; '.join(bad[:SHOWN])}{more}"


def grouped(architectures: Population[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row of the first of each isomorphism class, in order, and (B,) each's class."""
    _, first, group = np.unique(architectures.keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[group]


def _further(
    columns: Columns, taken: set[str]
) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...], dict[str, NDArray[np.bool_]]]:
    """Return the columns of numbers, the names of those of text, and cells that are no numbers."""
    numbers, text, wrong = {}, [], {}
    for name in columns.cells:
        if name in taken:
            continue
        values, bad = columns.numbers(name)
        if np.isfinite(values).any():
            numbers[name], wrong[name] = values, bad
        else:
            text.append(name)
    return numbers, tuple(text), wrong


def _complaints(
    columns: Columns,
    score: str,
    scores: NDArray[np.float64],
    errors: Mapping[int, Exception],
    wrong: Mapping[str, NDArray[np.bool_]],
) -> Iterator[tuple[int, str]]:
    """Yield each bad row with what is wrong, the worst first."""
    yield from ((row, str(error)) for row, error in errors.items())
    for row in np.flatnonzero(~np.isfinite(scores)).tolist():
        yield row, f"{score} is {columns[score][row]!r:.80}, expected a number"
    for name, bad in wrong.items():
        for row in np.flatnonzero(bad).tolist():
            yield row, f"{name} is {columns[name][row]!r:.80}, expected a number or nothing"
