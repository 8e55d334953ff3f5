"""Predictors: what they said beside what was measured, and how well they order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from scipy.stats import kendalltau, norm

from nasplatform.visualization.axes import QUIET, colour_of, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def predictions(frame: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw measured against predicted scores with 90 % intervals, tau and coverage in the title.

    frame: with the columns score, mean and std, as ``read_runs`` returns them: each prediction was
    made before its measurement. Rows without a prediction are left out.
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
        axes.errorbar(
            ordered["labels"],
            ordered["kendall_mean"],
            yerr=ordered["kendall_std"].fillna(0),
            label=str(name),
            color=colour_of(str(name)),
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
