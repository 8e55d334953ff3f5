"""Rows of a sub-space: drawn at random, told from others, changed by one decision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.vit.choices import SubSpace
from nasplatform.spaces.vit.population import Rows


def drawn(n: int, subspace: SubSpace, rng: np.random.Generator) -> Rows:
    """Return rows (n, D), every decision uniform among its choices."""
    rows = np.zeros((n, len(subspace.decisions)), np.uint8)
    for column, decision in enumerate(subspace.decisions):
        rows[:, column] = rng.integers(1, len(decision.choices) + 1, n)
    return cut(rows, subspace)


def cut(rows: Rows, subspace: SubSpace) -> Rows:
    """Set to 0, in place, what is decided for layers that are not there; return the rows."""
    for column, (depth, least) in enumerate(subspace.depths):
        if least:
            rows[rows[:, depth] < least, column] = 0
    return rows


def held(rows: Rows, subspace: SubSpace) -> NDArray[np.bool_]:
    """Return (B,): which rows (B, D) are architectures."""
    found = np.ones(len(rows), bool)
    for column, (depth, least) in enumerate(subspace.depths):
        most = len(subspace.decisions[column].choices)
        there = rows[:, depth] >= least
        chosen = rows[:, column]
        found &= np.where(there, (chosen >= 1) & (chosen <= most), chosen == 0)
    return found


def edited(rows: Rows, subspace: SubSpace) -> Rows:
    """Return (B', D): every edit of rows (B, D), those that change nothing too.

    One decision is changed; a depth by one, with any layer where one is put behind the last.
    """
    return np.concatenate([rows[:0], *_edits(rows, subspace)])


def _edits(rows: Rows, subspace: SubSpace) -> Iterator[Rows]:
    for column, decision in enumerate(subspace.decisions):
        places = range(1, len(decision.choices) + 1)
        if decision.field == "depth":
            for place in places[1:]:
                yield from _longer(rows[rows[:, column] == place - 1], column, subspace)
                shorter = _with(rows[rows[:, column] == place], column, place - 1)
                yield cut(shorter, subspace)
        else:
            for place in places:
                yield _with(rows[rows[:, column] > 0], column, place)


def _longer(rows: Rows, depth: int, subspace: SubSpace) -> Iterator[Rows]:
    """Put every layer behind the last; the rows are all of one depth."""
    if not len(rows):
        return
    place = int(rows[0, depth]) + 1
    columns = [at for at, needed in enumerate(subspace.depths) if needed == (depth, place)]
    choices = (range(1, len(subspace.decisions[at].choices) + 1) for at in columns)
    deeper = _with(rows, depth, place)
    for layer in product(*choices):
        changed = deeper.copy()
        changed[:, columns] = layer
        yield changed


def _with(rows: Rows, column: int, place: int) -> Rows:
    changed = rows.copy()
    changed[:, column] = place
    return changed
