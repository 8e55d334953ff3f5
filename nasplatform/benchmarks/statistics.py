"""What stands on the card of a table: its ceiling, its best, what simple counts explain."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasplatform.benchmarks.table import BenchmarkTable


def describe_table(table: BenchmarkTable, metric: str = "valid_accuracy") -> dict[str, Any]:
    """Return the statistics of a table's full training as plain JSON values.

    ``ceiling`` is Kendall's tau-b between the means of two disjoint halves of the seeds, averaged
    over the ways to halve them: no predictor of one half can agree better with the other.
    """
    scores, test = table.values(metric), table.values("test_accuracy")
    graphs = table.space.graphs(table.architectures)
    counts = {
        "conv3x3": graphs.operation_mask(kind="conv", kernel=3).sum(1),
        "blocks": graphs.operation_mask(kind="block").sum(1),
    }
    best = np.argsort(-scores, kind="stable")[:5]
    return {
        "ceiling": {
            f"{count} architectures, {seeds} seeds": ceiling(runs)
            for seeds, count, runs in _by_seed_count(table, metric)
        },
        "correlation": {
            "parameters": _tau(scores, graphs.total_params),
            "flops": _tau(scores, graphs.total_flops),
            **{name: _tau(scores, n) for name, n in counts.items() if n.any()},
            "test_accuracy": _tau(scores, test),
        },
        "quantiles": {
            str(q): round(float(np.quantile(scores, q)), 4) for q in (0.0, 0.1, 0.5, 0.9, 1.0)
        },
        "best": [
            {
                "architecture": table.space.format(table.architectures[int(row)]),
                metric: round(float(scores[row]), 4),
                "test_accuracy": round(float(test[row]), 4),
            }
            for row in best
        ],
    }


def ceiling(runs: NDArray[np.floating[Any]]) -> float:
    """Return the mean tau-b between halves of the seeds; runs has shape (architectures, seeds)."""
    seeds = range(runs.shape[1])
    taus = [
        kendalltau(runs[:, half].mean(1), runs[:, [s for s in seeds if s not in half]].mean(1))[0]
        for half in map(list, combinations(seeds, runs.shape[1] // 2))
        if 0 in half
    ]
    return round(float(np.mean(taus)), 3)


def _by_seed_count(
    table: BenchmarkTable, metric: str
) -> list[tuple[int, int, NDArray[np.floating[Any]]]]:
    runs = table.measurements[metric][:, -1].astype(np.float64)
    made = np.isfinite(runs).sum(1)
    counts = sorted({int(count) for count in made if count > 1}, reverse=True)
    return [(c, int((made == c).sum()), runs[made == c][:, :c]) for c in counts]


def _tau(left: NDArray[Any], right: NDArray[Any]) -> float:
    return round(float(kendalltau(left, right)[0]), 3)
