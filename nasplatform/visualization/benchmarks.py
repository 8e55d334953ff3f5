"""Benchmark tables: what the labels are like before anything learns from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nasplatform.visualization.axes import PALETTE, QUIET, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nasplatform.benchmarks.table import BenchmarkTable

_POINTS = 5000


def benchmark_card(
    table: BenchmarkTable, metric: str | None = None, axes: Axes | None = None
) -> Axes:
    """Draw a metric of a table against parameters, with its facts in the title.

    The facts: how many architectures, epochs and seeds; the best; the noise of a training, which
    is the standard deviation between the seeds of an architecture, averaged in squares, and drawn
    as a bar below the best.

    metric: the table's ``score`` by default. Of more than 5,000 architectures as many are drawn.
    """
    axes = axes or new_axes()
    name = metric or table.score
    values = table.values(name)
    params = table.space.graphs(table.architectures).total_params
    known = np.flatnonzero(np.isfinite(values))
    shown = np.random.default_rng(0).permutation(known)[:_POINTS]
    axes.scatter(params[shown], values[shown], s=5, color=QUIET, alpha=0.4, lw=0)
    best = int(known[np.argmax(table.scores(name)[known])])
    axes.plot(params[best], values[best], "o", color=PALETTE[1], label=f"best {values[best]:.4f}")
    runs = table.measurements[name][known, -1].astype(np.float64)
    repeated = runs[np.isfinite(runs).sum(axis=1) > 1]
    if len(repeated):
        noise = float(np.sqrt(np.nanvar(repeated, axis=1, ddof=1).mean()))
        label = f"noise of a training ± {noise:.4f}"
        axes.errorbar(
            params[best], values[best], yerr=noise, color=PALETTE[1], capsize=3, label=label
        )
    epochs, seeds = table.fidelities[-1], runs.shape[1]
    axes.set_title(
        f"{table.name}: {len(known):,} architectures, {epochs} epochs, up to {seeds} seeds",
        fontsize=9,
    )
    axes.set(xlabel="parameters", ylabel=name.replace("_", " "), xscale="log")
    axes.legend(fontsize=8, loc="lower right")
    return axes
