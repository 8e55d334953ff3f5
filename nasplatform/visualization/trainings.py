"""Trainings: what every epoch brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from nasplatform.visualization.axes import PALETTE, QUIET, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "valid_accuracy": "validation accuracy",
    "train_loss": "training loss, nats",
    "learning_rate": "learning rate",
    "seconds": "seconds of an epoch",
}


def learning_curves(
    frame: pd.DataFrame, column: str = "valid_accuracy", axes: Axes | None = None
) -> Axes:
    """Draw a column of every epoch, a line a training: those of a search grey, stages in colour.

    frame:  of ``read_epochs``.
    column: of that frame, e.g. ``train_loss``.
    """
    axes = axes or new_axes()
    searched = frame[frame["number"].notna()]
    for _, rows in searched.groupby(["run", "number"], sort=False):
        axes.plot(rows["epoch"], rows[column], color=QUIET, alpha=0.4, lw=0.8)
    stages = frame[frame["stage"].notna()]
    for place, (key, rows) in enumerate(stages.groupby(["run", "index", "stage"], sort=False)):
        run, _, stage = key
        name = stage if stages["run"].nunique() == 1 else f"{run}: {stage}"
        axes.plot(rows["epoch"], rows[column], color=PALETTE[place % len(PALETTE)], label=name)
    if len(searched):
        axes.plot([], [], color=QUIET, label="trainings of the search")
    axes.set(xlabel="epoch", ylabel=_LABELS.get(column, column.replace("_", " ")))
    if len(frame):
        axes.legend(fontsize=8)
    return axes
