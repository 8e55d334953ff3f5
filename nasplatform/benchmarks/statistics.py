"""What stands on the card of a table: its ceiling, its best, what simple counts explain."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasplatform.benchmarks.table import BenchmarkTable

_EVERY_HALF = 8  # seeds up to which all ways to halve them are looked at
_HALVES = 35  # random ones beyond that, as many as eight seeds have
_BEST = 5


def describe_table(table: BenchmarkTable, metric: str | None = None) -> dict[str, Any]:
    """Return the statistics of a table's full training as plain JSON values.

    ``ceiling`` is Kendall's tau-b between the means of two disjoint halves of the seeds, averaged
    over the ways to halve them: no predictor of one half can agree better with the other. It is
    there only where measurements were repeated.
    """
    name = metric or table.score
    scores = table.scores(name)
    order = np.argsort(-scores, kind="stable")[:_BEST]
    shown = [other for other in ("test_accuracy",) if other in table.metrics and other != name]
    return {
        "ceiling": {
            f"{rows} architectures, {seeds} seeds": found
            for seeds, rows, runs in _by_seed_count(table, name)
            if np.isfinite(found := ceiling(runs))
        },
        "correlation": {
            key: tau
            for key, values in _simple(table, name)
            if (tau := _tau(scores, values)) is not None
        },
        "quantiles": {
            str(q): round(float(np.nanquantile(table.values(name), q)), 4)
            for q in (0.0, 0.1, 0.5, 0.9, 1.0)
        },
        "best": [
            {
                "architecture": table.space.format(table.architectures[row]),
                **{one: round(float(table.values(one)[row]), 4) for one in (name, *shown)},
            }
            for row in order.tolist()
        ],
    }


def ceiling(runs: NDArray[np.floating[Any]]) -> float:
    """Return the mean tau-b between halves of the seeds; runs has shape (architectures, seeds)."""
    seeds = range(runs.shape[1])
    taus = [
        kendalltau(runs[:, half].mean(1), runs[:, [s for s in seeds if s not in half]].mean(1))[0]
        for half in _halves(len(seeds))
    ]
    return round(float(np.mean(taus)), 3)


def _halves(seeds: int) -> list[list[int]]:
    """Return halves of the seeds, each way to part them once, or some at random where too many."""
    if seeds <= _EVERY_HALF:
        return [half for half in map(list, combinations(range(seeds), seeds // 2)) if 0 in half]
    rng = np.random.default_rng(0)
    return [rng.permutation(seeds)[: seeds // 2].tolist() for _ in range(_HALVES)]


def _simple(table: BenchmarkTable, metric: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield what may explain a metric without any learning: costs, counts, what else there is."""
    graphs = table.space.graphs(table.architectures)
    yield "params", graphs.total_params
    yield "flops", graphs.total_flops
    yield "conv3x3", graphs.operation_mask(kind="conv", kernel=3).sum(1)
    yield "blocks", graphs.operation_mask(kind="block").sum(1)
    for name in table.metrics:
        if name != metric:
            yield name, table.values(name)
    for name, values in table.attributes.items():
        if name not in ("params", "flops"):
            yield name, np.asarray(values)


def _by_seed_count(
    table: BenchmarkTable, metric: str
) -> list[tuple[int, int, NDArray[np.floating[Any]]]]:
    runs = table.measurements[metric][:, -1].astype(np.float64)
    made = np.isfinite(runs).sum(1)
    counts = sorted({int(count) for count in made if count > 1}, reverse=True)
    return [
        (c, int((made == c).sum()), runs[made == c][:, :c]) for c in counts if (made == c).sum() > 1
    ]


def _tau(scores: NDArray[np.float64], values: NDArray[Any]) -> float | None:
    """Return tau-b where both are known, None where one of them is constant or no number."""
    if not np.issubdtype(values.dtype, np.number):
        return None
    known = np.isfinite(scores) & np.isfinite(values)
    tau = float(kendalltau(scores[known], values[known])[0]) if known.sum() > 1 else np.nan
    return round(tau, 3) if np.isfinite(tau) else None
