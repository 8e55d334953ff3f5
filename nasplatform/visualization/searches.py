"""Searches: what was found after how many networks, at what price, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasplatform.visualization.axes import PALETTE, QUIET, colour_of, dashes_of, new_axes
from nasplatform.visualization.baseline import draw_random

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
_METHOD = ["sampler", "predictor"]
_LABELS = {
    "params": "parameters",
    "flops": "FLOPs of one image",
    "seconds": "seconds of training",
}


def best_so_far(frame: pd.DataFrame) -> dict[str, Array]:
    """Return method -> (runs, n) the best feasible score after each unique evaluation.

    frame: of ``read_runs``. A method is a sampler, and the predictor where the sampler has one; a
    run that is shorter than others keeps its best; NaN while nothing feasible was found.
    """
    curves: dict[str, list[Array]] = {}
    for _, run in frame.groupby("run", sort=False):
        curves.setdefault(_method(run), []).append(best_of_run(run))
    return {name: _filled(rows) for name, rows in curves.items()}


def best_of_run(evaluations: pd.DataFrame) -> Array:
    """Return (T,) the best feasible score after each unique evaluation; NaN while there is none."""
    first = evaluations.sort_values("number").drop_duplicates("hash")
    scores = first["score"].where(first["feasible"]).to_numpy(dtype=np.float64)
    best: Array = np.fmax.accumulate(scores)
    return best


def search_curves(
    frame: pd.DataFrame, axes: Axes | None = None, table: Array | None = None
) -> Axes:
    """Draw the best score against evaluations: mean of the runs of a method, and its quartiles.

    table: (B,) scores of all that can be measured; random search on them is drawn beside, in closed
           form.
    """
    axes = axes or new_axes()
    curves = best_so_far(frame)
    for name, best in curves.items():
        _band(axes, name, best)
    if table is not None and curves:
        draw_random(axes, table, max(best.shape[1] for best in curves.values()))
    axes.set(xlabel="evaluations", ylabel="best score so far")
    axes.legend(fontsize=8)
    return axes


def regret(
    frame: pd.DataFrame, optimum: float, axes: Axes | None = None, table: Array | None = None
) -> Axes:
    """Draw on a log scale by how much the best so far misses the best that there is.

    optimum: the best score of the table. Zero regret lies on the lower edge.
    table:   as of ``search_curves``.
    """
    axes = axes or new_axes()
    curves = best_so_far(frame)
    for name, best in curves.items():
        _band(axes, name, optimum - best)
    if table is not None and curves:
        draw_random(axes, table, max(best.shape[1] for best in curves.values()), optimum)
    axes.set(xlabel="evaluations", ylabel="regret")
    axes.set_yscale("symlog", linthresh=1e-4)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return axes


def front(
    frame: pd.DataFrame, objective: str, axes: Axes | None = None, minimise: bool = True
) -> Axes:
    """Draw score against another column, with the front and the hypervolume that it dominates.

    The corner of the hypervolume, drawn as a cross, is the worst of what was measured.
    """
    axes = axes or new_axes()
    measured = frame.dropna(subset=["score", objective])
    x, y = (measured[c].to_numpy(dtype=np.float64) for c in (objective, "score"))
    cost = x if minimise else -x
    order = np.lexsort((-y, cost))
    best = np.maximum.accumulate(y[order])
    on_front = order[np.concatenate([[True], best[1:] > best[:-1]])] if len(order) else order
    axes.scatter(x, y, s=12, color=QUIET, alpha=0.5, label="measured")
    axes.step(x[on_front], y[on_front], "o-", where="post", color=colour_of("predictor"), ms=4)
    if len(order):
        volume = _hypervolume(cost[on_front], y[on_front], cost.max(), y.min())
        axes.plot(cost.max() if minimise else -cost.max(), y.min(), "k+")
        axes.set_title(f"front of {len(on_front)}, hypervolume {volume:.4g}", fontsize=9)
    axes.set(xlabel=_LABELS.get(objective, objective.replace("_", " ")), ylabel="score")
    return axes


def workers(frame: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw who measured when: a bar for each evaluation, overlapping ones in rows of their own."""
    axes = axes or new_axes()
    rows = frame.dropna(subset=["started", "ended"]).sort_values("started")
    begin = rows["started"].min()
    starts, ends = ((rows[c] - begin).dt.total_seconds() for c in ("started", "ended"))
    free: list[float] = []  # when each row is free again
    for start, end in zip(starts, ends, strict=True):
        place = next((i for i, until in enumerate(free) if until <= start), len(free))
        free[place : place + 1] = [end]
        axes.barh(place, end - start, left=start, height=0.8, color=PALETTE[0], alpha=0.8)
    axes.set(xlabel="seconds", ylabel="evaluations at a time", yticks=range(len(free)))
    return axes


def _method(run: pd.DataFrame) -> str:
    parts = [str(v) for v in run[_METHOD].iloc[0] if pd.notna(v)]
    return " + ".join(parts)


def _filled(rows: list[Array]) -> Array:
    longest = max(map(len, rows))
    return np.array([np.append(r, np.full(longest - len(r), r[-1])) for r in rows])


def _band(axes: Axes, name: str, curves: Array) -> None:
    steps = np.arange(1, curves.shape[1] + 1)
    seen = ~np.isnan(curves).any(axis=0)
    colour = colour_of(name.rpartition(" + ")[2])
    label = f"{name} ({len(curves)} {'run' if len(curves) == 1 else 'runs'})"
    mean = curves[:, seen].mean(axis=0)
    style = dashes_of(axes, colour)
    axes.plot(steps[seen], mean, style, color=colour, label=label, drawstyle="steps-post")
    if len(curves) > 1:
        low, high = np.percentile(curves[:, seen], [25, 75], axis=0)
        axes.fill_between(steps[seen], low, high, color=colour, alpha=0.15, lw=0, step="post")


def _hypervolume(cost: Array, score: Array, most: float, least: float) -> float:
    """Return the area above ``least`` and left of ``most``; cost ascends, so does score."""
    return float(np.diff(np.append(cost, most)) @ (score - least))
