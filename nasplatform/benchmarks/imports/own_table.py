"""A table from a user's own measurements: architectures of any registered space, and scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.atomic_io import sha256
from nasplatform.benchmarks.imports.measured import Measured, grouped, quoted, read_measured
from nasplatform.benchmarks.statistics import describe_table
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.errors import DataError
from nasplatform.spaces.base import Space

FIDELITY = 1  # the only training length of such a table
_TAKEN = frozenset({"params", "flops", "code", "architecture", "hash"})
_LARGEST = 1 << 28  # numbers of one metric


@dataclass(frozen=True)
class OwnTable:
    """Which columns of a file become what.

    score:        the searched metric.
    architecture: the text forms; ``architecture`` where not given.
    attributes:   what is known before an architecture is measured, such as a latency.
    minimize:     whether less of the score is better.
    skip_bad:     whether bad rows are left out instead of refused.
    """

    score: str
    architecture: str | None = None
    attributes: tuple[str, ...] = ()
    minimize: bool = False
    skip_bad: bool = False


def import_own_table(
    file: Path, space: Space[Any], asked: OwnTable, name: str, out_folder: Path
) -> tuple[Path, list[str]]:
    """Turn a file of architectures and scores into a table; return its path and what to know.

    Rows of isomorphic architectures are repeated measurements of the first of them. Further columns
    of numbers become metrics, or attributes where that is asked. Raises DataError, without having
    written anything, for bad rows (unless they are skipped) and for columns that cannot be.
    """
    found = read_measured(file, space, asked.score, asked.architecture, asked.skip_bad)
    first, group = grouped(found.architectures)
    if len(first) < 2:
        raise DataError(f"{file}: {len(first)} architectures, a table needs at least 2")
    names = _names([asked.score, *found.others], file)
    architectures = found.architectures[first]
    graphs = space.graphs(architectures)
    attributes: dict[str, NDArray[Any]] = {
        "params": graphs.total_params,
        "flops": graphs.total_flops,
    }
    for column in asked.attributes:
        attributes[names.get(column, column)] = _attribute(found, column, group, first, space, file)
    repetition = _repetitions(group)
    if len(first) * (repetition.max() + 1) > _LARGEST:
        raise DataError(f"{file}: one architecture is measured {repetition.max() + 1:,} times")
    metrics = {asked.score: found.scores, **found.others}
    notes = [*_notes(found, names, group, repetition)]
    table = BenchmarkTable(
        name=name,
        space=space,
        architectures=architectures,
        fidelities=(FIDELITY,),
        measurements={
            names[column]: repeated(values, group)
            for column, values in metrics.items()
            if column not in asked.attributes
        },
        attributes=attributes,
    )
    card = {
        "file": file.name,
        "file_sha256": sha256(file),
        "score": names[asked.score],
        "directions": {names[asked.score]: "minimize" if asked.minimize else "maximize"},
        "notes": "; ".join(notes),
    }
    table = replace(table, card=card)
    table = replace(table, card=card | describe_table(table))
    path = out_folder / f"{name}.parquet"
    save_table(table, path)
    return path, notes


def _names(columns: Sequence[str], file: Path) -> dict[str, str]:
    """Return the name that each column has in the table: letters, digits and underscores."""
    names: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"\W+", "_", column).strip("_") or "column"
        name = f"stated_{name}" if name in _TAKEN else name
        if name in names.values():
            raise DataError(f"{file}: two columns would be called {name!r}: rename one of them")
        names[column] = name
    return names


def _attribute(
    found: Measured,
    column: str,
    group: NDArray[np.intp],
    first: NDArray[np.intp],
    space: Space[Any],
    file: Path,
) -> NDArray[np.float64]:
    """Return the one value of each architecture; raise DataError where there is none, or two."""
    if column not in found.others:
        known = ", ".join(found.others) or "none"
        raise DataError(f"{file}: attribute {column!r} is no further column of numbers ({known})")
    values = found.others[column]
    kept = values[first]
    wrong = np.flatnonzero(~(values == kept[group]))
    if len(wrong):
        text = space.format(found.architectures[int(wrong[0])])
        stated = f"{kept[group[wrong[0]]]:g} and {values[wrong[0]]:g}".replace("nan", "nothing")
        raise DataError(
            f"{file}: attribute {column!r} must have one value for each architecture, {text} has "
            f"{stated}"
        )
    return kept


def _repetitions(group: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return (B,) how many rows of the same architecture stand before each."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    repetition = np.empty(len(group), np.intp)
    repetition[order] = np.arange(len(group)) - starts
    return repetition


def repeated(values: NDArray[np.float64], group: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return values (B,) of G architectures as (G, 1, S) measurements, NaN where fewer."""
    repetition = _repetitions(group)
    cube = np.full((group.max() + 1, 1, repetition.max() + 1), np.nan, np.float32)
    cube[group, 0, repetition] = values
    return cube


def _notes(
    found: Measured,
    names: dict[str, str],
    group: NDArray[np.intp],
    repetition: NDArray[np.intp],
) -> list[str]:
    """Return what a user should know of what was made of the file."""
    notes = []
    if found.bad:
        notes.append(f"left out {quoted(found.bad, 'row')}")
    if found.text:
        notes.append(f"left out columns without numbers: {', '.join(found.text)}")
    renamed = [f"{column!r} as {name}" for column, name in names.items() if column != name]
    if renamed:
        notes.append(f"kept column {', '.join(renamed)}")
    if repetition.any():
        notes.append(
            f"{len(group):,} rows are measurements of {group.max() + 1:,} different architectures, "
            f"at most {repetition.max() + 1} of one"
        )
    rows = np.column_stack([group, found.scores, *found.others.values()])
    same = len(rows) - len(np.unique(rows, axis=0))
    if same:
        notes.append(f"{same:,} rows repeat an earlier one to the last digit, as copies do")
    return notes
