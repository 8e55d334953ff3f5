"""How good a predictor is: the field's metrics, on draws of a label protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from nasplatform.errors import PredictorError
from nasplatform.predictors import get_predictor
from nasplatform.predictors.baselines import baselines_of
from nasplatform.predictors.protocols import Draw, Protocol, draw, graphs_of, most_labels

Floats = NDArray[np.float64]
TOP = 100  # k of precision@k
PICKED = 10  # architectures that a user would train


def rank_metrics(predicted: Floats, truth: Floats) -> dict[str, float]:
    """Compare predicted with true scores, both (m,), higher is better.

    kendall:      Kendall's tau-b.
    spearman:     Spearman's rho.
    precision@100: share of the 100 predicted best that are among the 100 truly best.
    precision@10: the same of 10.
    regret@10:    truly best score minus the best true score among the 10 predicted best.
    ndcg@10:      discounted gain of the 10 predicted best, as a share of what the 10 truly best
                  gain; the gain of an architecture is its score, 0 for the worst and 1 for the best
                  (Jaervelin & Kekaelaeinen, 2002).
    """
    if len(truth) < 2:
        raise PredictorError(f"{len(truth)} scores cannot be ranked: at least 2 are needed")
    constant = np.ptp(predicted) == 0
    order = np.argsort(-predicted, kind="stable")
    best = np.argsort(-truth, kind="stable")
    return {
        "kendall": 0.0 if constant else float(kendalltau(predicted, truth)[0]),
        "spearman": 0.0 if constant else float(spearmanr(predicted, truth)[0]),
        f"precision@{TOP}": _precision(order, best, TOP),
        f"precision@{PICKED}": _precision(order, best, PICKED),
        f"regret@{PICKED}": float(truth.max() - truth[order[:PICKED]].max()),
        f"ndcg@{PICKED}": _ndcg(truth[order[:PICKED]], truth[best[:PICKED]], truth.min()),
    }


def _precision(order: NDArray[np.intp], best: NDArray[np.intp], k: int) -> float:
    top = min(k, len(best))
    return len(np.intersect1d(order[:top], best[:top])) / top


def _ndcg(picked: Floats, best: Floats, lowest: float) -> float:
    discount = 1 / np.log2(np.arange(len(best)) + 2)
    most = float(discount @ (best - lowest))
    return float(discount @ (picked - lowest)) / most if most else 1.0


def coverage(mean: Floats, std: Floats, truth: Floats, level: float = 0.9) -> float:
    """Return the share of truths inside the central normal interval of the given level."""
    from scipy.stats import norm

    inside = np.abs(truth - mean) <= norm.ppf((1 + level) / 2) * std
    return float(inside.mean())


GP_TREES = "gp-trees"  # the strong simple predictor, in every table


def evaluate(
    predictors: Mapping[str, Mapping[str, Any]],
    protocol: Protocol,
    labels: Sequence[int],
    draws: int,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure predictors, and the baselines beside them, on the same draws.

    predictors: name -> options.
    labels: label counts; everything that a predictor holds out for itself is among them.
    draws:  number of random draws of each count.
    Returns a tidy frame, one row per predictor, label count and draw: ``protocol``, ``predictor``,
    ``labels``, ``draw``, the metrics of ``rank_metrics`` over all judged architectures,
    ``kendall_unique`` over those with no isomorphic twin among the labels, ``coverage90`` (share
    of further labels inside their central 90 % interval), ``fit_seconds``, ``query_seconds``.
    A predictor is shown the graphs that it will be asked about, without scores: the space is known.
    """
    _check_request(protocol, labels, draws)
    contestants = [*baselines_of(graphs_of(protocol)), *dict.fromkeys([*predictors, GP_TREES])]
    counts = dict.fromkeys(labels)  # one that stands twice would count its draws twice
    runs = [(n, seed, name) for n in counts for seed in range(draws) for name in contestants]
    rows: list[dict[str, Any]] = []
    drawn, of = None, (-1, -1)
    for done, (n, seed, name) in enumerate(runs):
        if drawn is None or of != (n, seed):
            drawn, of = draw(protocol, n, seed), (n, seed)
        place = {"protocol": protocol.name, "predictor": name, "labels": n, "draw": seed}
        rows.append(place | measure(name, drawn, seed, predictors.get(name)))
        if progress:
            progress(done + 1, len(runs))
    return pd.DataFrame(rows)


def measure(
    name: str, drawn: Draw, seed: int, options: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return the metrics of one predictor, or baseline, on one draw; see ``evaluate``."""
    baseline = baselines_of(drawn.train).get(name)
    if baseline is not None:
        return _judge(baseline(drawn.train, drawn.labels, drawn.test, seed), drawn)
    return _fit_and_judge(name, options or {}, drawn, seed)


def _check_request(protocol: Protocol, labels: Sequence[int], draws: int) -> None:
    """Refuse what cannot be drawn before anything is fitted."""
    if draws < 1:
        raise PredictorError(f"{draws} draws: at least 1 is needed")
    if not labels:
        raise PredictorError("no label counts were given")
    most = most_labels(protocol)
    for n in labels:
        if not 2 <= n <= most:
            raise PredictorError(
                f"protocol {protocol.name!r}: {n} labels were asked for, expected 2 to {most}"
            )


def _fit_and_judge(
    name: str, options: Mapping[str, Any], drawn: Draw, seed: int
) -> dict[str, float]:
    fitted = get_predictor(name, seed=seed, **options)
    start = perf_counter()
    fitted.fit(drawn.train, drawn.labels, unlabelled=drawn.test)
    middle = perf_counter()
    prediction = fitted.predict(drawn.test)
    end = perf_counter()
    covered = {}
    if len(drawn.held_out):
        held_out = fitted.predict(drawn.held_out)
        share = coverage(held_out.mean, held_out.std, drawn.held_out_labels)
        covered = {"coverage90": share}
    return _judge(prediction.mean, drawn) | {
        **covered,
        "fit_seconds": middle - start,
        "query_seconds": end - middle,
    }


def _judge(scores: Floats, drawn: Draw) -> dict[str, float]:
    unique = rank_metrics(scores[drawn.unique], drawn.truth[drawn.unique])
    return rank_metrics(scores, drawn.truth) | {"kendall_unique": unique["kendall"]}


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and standard error over the draws.

    One row per predictor and label count: ``draws``, and ``METRIC_mean``, ``_std`` and ``_sem``.
    """
    keys = ["protocol", "predictor", "labels"]
    grouped = results.drop(columns="draw").groupby(keys, sort=False)
    summary = grouped.agg(["mean", "std", "sem"])
    summary.columns = [
        f"{metric}_{kind}" for metric, kind in cast("pd.MultiIndex", summary.columns)
    ]
    summary.insert(0, "draws", grouped.size())
    return summary.reset_index()


def paired(results: pd.DataFrame, reference: str, metric: str = "kendall") -> pd.DataFrame:
    """Return how far each predictor is above a reference on the same draws.

    One row per predictor and label count: ``predictor``, ``labels``, ``difference`` (mean over the
    draws) and ``difference_sem``, the standard error of that mean.
    """
    on = ["labels", "draw"]
    level = results.loc[results["predictor"] == reference, [*on, metric]]
    both = results[["predictor", *on, metric]].merge(level, on=on, suffixes=("", "_reference"))
    both["gap"] = both[metric] - both[f"{metric}_reference"]
    found = both.groupby(["predictor", "labels"], sort=False)["gap"].agg(["mean", "sem"])
    return found.set_axis(["difference", "difference_sem"], axis=1).reset_index()


COLUMNS = (
    *("predictor", "labels", "draws", "kendall", "spearman"),
    *(f"precision@{TOP}", f"precision@{PICKED}", f"regret@{PICKED}", f"ndcg@{PICKED}"),
)


def table(summary: pd.DataFrame, spread: str = "std") -> list[dict[str, Any]]:
    """Return the rows of a summary for people: mean and ``std`` or ``sem`` in one column each."""
    rows = []
    for entry in summary.to_dict("records"):
        row: dict[str, Any] = {key: entry[key] for key in COLUMNS[:3]}
        for metric in COLUMNS[3:]:
            row[metric] = _with_spread(entry[f"{metric}_mean"], entry[f"{metric}_{spread}"])
        rows.append(row)
    return rows


def differences(summary: pd.DataFrame) -> list[str]:
    """Return the paired differences of a summary for people, with their standard errors.

    Nothing is said where the reference was not measured on any of the draws.
    """
    pairs = zip(summary["difference"], summary["difference_sem"], strict=True)
    return [_with_spread(mean, error) if np.isfinite(mean) else "" for mean, error in pairs]


def _with_spread(mean: float, spread: float) -> str:
    return f"{mean:.4f}" + (f" ± {spread:.4f}" if np.isfinite(spread) else "")
