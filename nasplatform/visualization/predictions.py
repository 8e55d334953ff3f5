"""Predictors: what they said beside what was measured, and how well they order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, norm

from nasplatform.visualization.axes import PALETTE, QUIET, colour_of, dashes_of, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def predictions(frame: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw measured against predicted scores with 90 % intervals, tau and coverage in the title.

    frame: of ``read_predictions``, or of ``read_runs``: each prediction was made before its
    measurement. Rows without a prediction, or where the measurement failed, are left out.
    """
    axes = axes or new_axes(4.6, 4.4)
    known = frame.dropna(subset=["score", "mean", "std"])
    half = norm.ppf(0.95) * known["std"]
    colour = colour_of("predictor")
    axes.errorbar(
        known["mean"], known["score"], xerr=half, fmt=".", color=colour, alpha=0.5, elinewidth=0.6
    )
    if len(known):
        ends = (known[["mean", "score"]].min().min(), known[["mean", "score"]].max().max())
        axes.plot(ends, ends, ":", color=QUIET)
    if len(known) > 1:
        tau = kendalltau(known["mean"], known["score"])[0]
        covered = ((known["score"] - known["mean"]).abs() <= half).mean()
        title = (
            f"{len(known)} evaluations: Kendall's tau {tau:.2f}, {covered:.0%} in 90 % intervals"
        )
        axes.set_title(title, fontsize=9)
    axes.set(xlabel="predicted score", ylabel="measured score")
    return axes


def calibration(frame: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw how often central intervals hold the measurement against how often they should.

    frame: of ``read_predictions``, or of ``read_runs``. A line for each run; on the diagonal the
    posterior is calibrated, below it too narrow. The title has the mean distance to it.
    """
    axes = axes or new_axes(4.6, 4.4)
    known = frame.dropna(subset=["score", "mean", "std"])
    nominal = np.linspace(0.0, 1.0, 41)[1:-1]
    far = []
    for place, (run, rows) in enumerate(known.groupby("run", sort=False)):
        distance = ((rows["score"] - rows["mean"]).abs() / rows["std"]).to_numpy(float)
        held = (distance[:, None] <= norm.ppf((1 + nominal) / 2)).mean(axis=0)
        axes.plot(nominal, held, color=PALETTE[place % len(PALETTE)], label=f"{run} ({len(rows)})")
        far.append(np.abs(held - nominal).mean())
    axes.plot([0, 1], [0, 1], ":", color=QUIET)
    if far:
        axes.set_title(f"mean distance to calibrated {np.mean(far):.3f}", fontsize=9)
        axes.legend(fontsize=8)
    axes.set(xlabel="share of the posterior in an interval", ylabel="measurements that lie in it")
    return axes


def tau_against_labels(
    summary: pd.DataFrame,
    published: Mapping[str, Mapping[int, float]] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw Kendall's tau against the number of labels, a line for each predictor.

    summary:   columns predictor, labels, kendall_mean, kendall_std (``evaluation.summarise``).
    published: method -> labels -> tau, drawn as points.
    """
    axes = axes or new_axes(8.5, 4.2)
    for name, rows in summary.groupby("predictor", sort=False):
        ordered = rows.sort_values("labels")
        colour = colour_of(str(name))
        axes.errorbar(
            ordered["labels"],
            ordered["kendall_mean"],
            yerr=ordered["kendall_std"].fillna(0),
            label=str(name),
            color=colour,
            linestyle=dashes_of(axes, colour),
            marker=".",
            capsize=3,
        )
    for marker, (method, points) in zip("osD^v*Xp<>" * 3, (published or {}).items(), strict=False):
        axes.plot(list(points), list(points.values()), marker, color=QUIET, label=method)
    axes.set_xscale("log")
    ticks = sorted(summary["labels"].unique())
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.set(xlabel="labels", ylabel="Kendall's tau")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return axes
