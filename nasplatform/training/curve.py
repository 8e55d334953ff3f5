"""How a training went, epoch by epoch, small enough to be kept with what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Curve = Mapping[str, Sequence[float]]
"""Column -> one value per epoch, all of one length; the column ``epoch`` counts from 1."""
MOST_EPOCHS = 200
"""Epochs that are kept of a longer training, evenly spaced, the first and the last among them."""


def thinned(curve: Curve) -> dict[str, list[float]]:
    """Return a curve with at most ``MOST_EPOCHS`` of its epochs."""
    length = max(map(len, curve.values()), default=0)
    rows = np.unique(np.linspace(0, length - 1, min(length, MOST_EPOCHS)).round().astype(int))
    return {name: [values[row] for row in rows] for name, values in curve.items()}


def joined(curves: Iterable[Curve]) -> dict[str, list[float]]:
    """Return the curves of trainings one after the other: epochs count on, ``round`` is new.

    round: which of the trainings, from 1. A column that one of them lacks is left out.
    """
    parts = list(curves)
    if not parts:
        return {}
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    found: dict[str, list[float]] = {name: [] for name in (*shared, "round")}
    for number, part in enumerate(parts, start=1):
        before = found["epoch"][-1] if found["epoch"] else 0
        for name in shared:
            past = before if name == "epoch" else 0
            found[name] += [value + past for value in part[name]]
        found["round"] += [number] * len(part["epoch"])
    return found
