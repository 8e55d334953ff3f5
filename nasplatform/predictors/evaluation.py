"""How good a predictor is: the field's metrics, under protocols that have names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from time import perf_counter
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import kendalltau, spearmanr

from nasplatform.benchmarks.registry import list_tables, load_table
from nasplatform.benchmarks.table import BenchmarkTable
from nasplatform.errors import DataError, PredictorError, did_you_mean
from nasplatform.predictors import get_predictor
from nasplatform.spaces.graph import GraphBatch

Floats = NDArray[np.float64]
TOP = 100  # k of precision@k
_HELD_OUT = 5000
PICKED = 10  # architectures that a user would train


class Measurement(BaseModel):
    """Which value of a table: metric (the first one that it has), epochs, repetition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str | tuple[str, ...]
    fidelity: int
    seed: int | None

    def values(self, table: BenchmarkTable) -> Floats:
        """Return (B,) values, NaN where the table has none."""
        wanted = (self.metric,) if isinstance(self.metric, str) else self.metric
        metric = next((name for name in wanted if name in table.metrics), wanted[0])
        return table.values(metric, self.fidelity, self.seed)


class Protocol(BaseModel):
    """A label protocol; the fields are explained in ``protocols.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    about: str
    table: tuple[str, ...]
    train: Measurement
    test: Measurement
    train_rows: Literal["unlabelled", "any"]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """One random choice of labels under a protocol.

    train, test: graphs that are learnt from (n) and predicted (m); they share no architecture.
    labels:      (n,) what the predictor is told.
    truth:       (m,) what it is judged by, higher is better.
    unique:      (m,) True where no isomorphic architecture was learnt from.
    held_out, held_out_labels: at most 5,000 further architectures with the measurement that was
        learnt from: what the predicted mean and standard deviation speak of. The truth often is
        another quantity (test in place of validation, a mean in place of one run).
    """

    train: GraphBatch
    labels: Floats
    test: GraphBatch
    truth: Floats
    unique: NDArray[np.bool_]
    held_out: GraphBatch
    held_out_labels: Floats


def protocols() -> dict[str, Protocol]:
    """Return every protocol by name."""
    text = files("nasplatform.predictors").joinpath("protocols.yaml").read_text("utf-8")
    return {name: Protocol(name=name, **entry) for name, entry in yaml.safe_load(text).items()}


def get_protocol(name: str) -> Protocol:
    """Return a protocol; raise PredictorError for an unknown name."""
    known = protocols()
    if name not in known:
        raise PredictorError(f"unknown protocol {name!r}{did_you_mean(name, known)}")
    return known[name]


def draw(protocol: Protocol, labels: int, seed: int) -> Draw:
    """Choose ``labels`` architectures at random and set the others that have a truth apart.

    Raises DataError where the table is not at hand, PredictorError where it has too few labels.
    """
    arena = _arena(protocol)
    rng = np.random.default_rng([seed, labels])
    if labels > len(arena.train_rows):
        raise PredictorError(
            f"protocol {protocol.name!r} has {len(arena.train_rows)} labels, "
            f"{labels} were asked for"
        )
    train = rng.choice(arena.train_rows, labels, replace=False)
    test = np.setdiff1d(arena.test_rows, train)
    others = np.setdiff1d(arena.train_rows, train)
    held_out = rng.permutation(others)[:_HELD_OUT]
    graphs, keys = arena.graphs, arena.table.architectures.keys
    return Draw(
        train=graphs[train],
        labels=arena.train_values[train],
        test=graphs[test],
        truth=arena.test_values[test],
        unique=~np.isin(keys[test], keys[train]),
        held_out=graphs[held_out],
        held_out_labels=arena.train_values[held_out],
    )


@dataclass(frozen=True)
class _Arena:
    """The table of a protocol with what may be learnt from and what may be asked."""

    table: BenchmarkTable
    graphs: GraphBatch
    train_values: Floats
    test_values: Floats
    train_rows: NDArray[np.intp]
    test_rows: NDArray[np.intp]


@cache
def _arena(protocol: Protocol) -> _Arena:
    at_hand = [name for name in protocol.table if name in list_tables()]
    if not at_hand:
        raise DataError(
            f"protocol {protocol.name!r} needs the table {' or '.join(protocol.table)}: "
            f"see `nasplatform data import --help`"
        )
    table = load_table(at_hand[0])
    train, test = protocol.train.values(table), protocol.test.values(table)
    learnable, judged = np.isfinite(train), np.isfinite(test)
    if protocol.train_rows == "unlabelled" and not judged.all():
        learnable &= ~judged
    return _Arena(
        table=table,
        graphs=table.space.graphs(table.architectures),
        train_values=train,
        test_values=test,
        train_rows=np.flatnonzero(learnable),
        test_rows=np.flatnonzero(judged),
    )


def rank_metrics(predicted: Floats, truth: Floats) -> dict[str, float]:
    """Compare predicted with true scores, both (m,), higher is better.

    kendall:      Kendall's tau-b.
    spearman:     Spearman's rho.
    precision@100: share of the 100 predicted best that are among the 100 truly best.
    regret@10:    truly best score minus the best true score among the 10 predicted best.
    """
    if len(truth) < 2:
        raise PredictorError(f"{len(truth)} scores cannot be ranked: at least 2 are needed")
    constant = np.ptp(predicted) == 0
    order = np.argsort(-predicted, kind="stable")
    best = np.argsort(-truth, kind="stable")
    top = min(TOP, len(truth))
    return {
        "kendall": 0.0 if constant else float(kendalltau(predicted, truth)[0]),
        "spearman": 0.0 if constant else float(spearmanr(predicted, truth)[0]),
        f"precision@{TOP}": len(np.intersect1d(order[:top], best[:top])) / top,
        f"regret@{PICKED}": float(truth.max() - truth[order[:PICKED]].max()),
    }


def coverage(mean: Floats, std: Floats, truth: Floats, level: float = 0.9) -> float:
    """Return the share of truths inside the central normal interval of the given level."""
    from scipy.stats import norm

    inside = np.abs(truth - mean) <= norm.ppf((1 + level) / 2) * std
    return float(inside.mean())


BASELINES: dict[str, Callable[[GraphBatch, np.random.Generator], Floats]] = {
    "random": lambda graphs, rng: rng.random(len(graphs)),
    "parameters": lambda graphs, rng: graphs.total_params.astype(np.float64),
    "flops": lambda graphs, rng: graphs.total_flops.astype(np.float64),
}
GP_TREES = "gp-trees"  # the strong simple predictor, in every table


def evaluate(
    predictor: str,
    protocol: Protocol,
    labels: Sequence[int],
    seeds: int,
    options: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure a predictor, and the baselines beside it, on the same draws.

    labels: label counts; everything that a predictor holds out for itself is among them.
    seeds:  number of random draws of each count.
    Returns a tidy frame, one row per predictor, label count and draw: ``protocol``, ``predictor``,
    ``labels``, ``draw``, the metrics of ``rank_metrics`` over all judged architectures,
    ``kendall_unique`` over those with no isomorphic twin among the labels, ``coverage90`` (share
    of further labels inside their central 90 % interval), ``fit_seconds``, ``query_seconds``.
    A predictor is shown the graphs that it will be asked about, without scores: the space is known.
    """
    _check_request(protocol, labels, seeds)
    contestants = [*BASELINES, *dict.fromkeys([predictor, GP_TREES])]
    runs = [(n, seed) for n in labels for seed in range(seeds)]
    rows: list[dict[str, Any]] = []
    for done, (n, seed) in enumerate(runs):
        drawn = draw(protocol, n, seed)
        for name in contestants:
            place = {"protocol": protocol.name, "predictor": name, "labels": n, "draw": seed}
            own = (options or {}) if name == predictor else {}
            rows.append(place | measure(name, drawn, seed, own))
        if progress:
            progress(done + 1, len(runs))
    return pd.DataFrame(rows)


def measure(
    name: str, drawn: Draw, seed: int, options: dict[str, Any] | None = None
) -> dict[str, float]:
    """Return the metrics of one predictor, or baseline, on one draw; see ``evaluate``."""
    if name in BASELINES:
        return _judge(BASELINES[name](drawn.test, np.random.default_rng(seed)), drawn)
    return _fit_and_judge(name, options or {}, drawn, seed)


def _check_request(protocol: Protocol, labels: Sequence[int], seeds: int) -> None:
    """Refuse what cannot be drawn before anything is fitted."""
    if seeds < 1:
        raise PredictorError(f"{seeds} draws: at least 1 is needed")
    if not labels:
        raise PredictorError("no label counts were given")
    most = len(_arena(protocol).train_rows)
    for n in labels:
        if not 2 <= n <= most:
            raise PredictorError(
                f"protocol {protocol.name!r}: {n} labels were asked for, expected 2 to {most}"
            )


def _fit_and_judge(name: str, options: dict[str, Any], drawn: Draw, seed: int) -> dict[str, float]:
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
    """Return mean and standard deviation over the draws, one row per predictor and label count."""
    keys = ["protocol", "predictor", "labels"]
    grouped = results.drop(columns="draw").groupby(keys, sort=False)
    summary = grouped.agg(["mean", "std"])
    summary.columns = [
        f"{metric}_{kind}" for metric, kind in cast("pd.MultiIndex", summary.columns)
    ]
    summary.insert(0, "draws", grouped.size())
    return summary.reset_index()


COLUMNS = ("predictor", "labels", "draws", "kendall", "spearman", "precision@100", "regret@10")


def table(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a summary for people: mean and deviation in one column each."""
    rows = []
    for entry in summary.to_dict("records"):
        row: dict[str, Any] = {key: entry[key] for key in COLUMNS[:3]}
        for metric in COLUMNS[3:]:
            mean, deviation = entry[f"{metric}_mean"], entry[f"{metric}_std"]
            spread = f" ± {deviation:.4f}" if np.isfinite(deviation) else ""
            row[metric] = f"{mean:.4f}{spread}"
        rows.append(row)
    return rows
