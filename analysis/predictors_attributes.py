"""Compare predictors on spaces of numeric choices: chains and vision transformers.

    NASPLATFORM_DATA=... python analysis/predictors_attributes.py results/ --draws 10

Tasks: the embedded table of chains, and AutoFormer's subnets (Chen et al., ICCV 2021) of two sizes
with their accuracy on ImageNet, from ``vit_autoformer_imagenet.parquet`` in NASPLATFORM_DATA.
Beside the usual baselines those that see the decisions as they are: one-hot in a Gaussian process
and as numbers in boosted trees. Writes ``attributes.parquet``, a row a draw,
and ``attributes.md``: Kendall's tau on all that was not drawn, mean and standard error, and the
paired difference to ``default``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.benchmarks.registry import load_table
from nasplatform.predictors import get_predictor
from nasplatform.predictors.baselines import BASELINES
from nasplatform.predictors.gp import Process
from nasplatform.predictors.kernels import Prior
from nasplatform.predictors.target_maps import normal_scores
from nasplatform.predictors.trees import Forest, TreesOptions
from nasplatform.spaces.graph import Attribute, GraphBatch, Operation

Floats = NDArray[np.float64]
LABELS = (50, 100, 200)
PREDICTORS = ("default", "default:distilled_gnns=0", "gp-trees", "gp", "trees")
_TOKENS = 197
_HEAD = 64  # channels of an attention head


@dataclass(frozen=True)
class Task:
    """Graphs, the decisions that made them as numbers (B, P), and their scores (B,)."""

    graphs: GraphBatch
    decisions: Floats
    scores: Floats


def chains(name: str) -> Task:
    """Return an embedded table of chains."""
    table = load_table(name)
    params = [table.space.to_params(one) for one in table.architectures]
    frame = pd.DataFrame(params, columns=list(table.space.distributions()))
    scores = table.values(table.score)
    return Task(table.space.graphs(table.architectures), _flat(frame), scores)


def transformers(size: str) -> Task:
    """Return AutoFormer's subnets: an embedding, then 14 blocks at most of attention and MLP."""
    path = Path(os.environ["NASPLATFORM_DATA"]) / "vit_autoformer_imagenet.parquet"
    rows = pd.read_parquet(path).query("space == @size").reset_index(drop=True)
    heads, ratios = _padded(rows["num_heads"]), _padded(rows["mlp_ratio"])
    width = rows["embed_dim"].to_numpy(np.float64)
    decisions = np.column_stack([rows["layer_num"], width, heads, ratios])
    graphs = transformer_graphs(width, heads, ratios)
    frame = pd.DataFrame(decisions)
    return Task(graphs, _flat(frame), rows["imagenet_top1"].to_numpy(np.float64))


def transformer_graphs(width: Floats, heads: Floats, ratios: Floats) -> GraphBatch:
    """Return transformers; width (B,), heads and ratios (B, L) of each block, NaN for none."""
    b, depth = heads.shape
    there = np.isfinite(heads)
    block = Operation(
        "block",
        "block",
        nonlinear=True,
        normalised=True,
        parts=(
            Operation("attention", "attention", normalised=True, residual=True),
            Operation("mlp", "mlp", nonlinear=True, normalised=True, residual=True),
        ),
    )
    vocabulary = (
        Operation("input", "input"), Operation("identity", "skip"), block,
        Operation("output", "output"),
    )  # fmt: skip
    ops = np.zeros((b, depth + 2), np.int8)
    ops[:, 1:-1], ops[:, -1] = np.where(there, 2, 1), 3
    inside = np.nan_to_num(heads) * _HEAD
    hidden = np.nan_to_num(ratios) * width[:, None]
    weights = width[:, None] * (4 * inside + 2 * hidden)
    params = np.zeros((b, 1, depth + 2), np.int64)
    flops = np.zeros_like(params)
    params[:, 0, 1:-1] = weights
    flops[:, 0, 1:-1] = 2 * _TOKENS * (weights + 2 * _TOKENS * inside)
    attributes = np.full((b, depth + 2, 3), np.nan, np.float32)
    attributes[:, 1:-1] = np.stack([heads, ratios, np.where(there, width[:, None], np.nan)], axis=2)
    lows, highs = np.nanmin(attributes, (0, 1)), np.nanmax(attributes, (0, 1))
    names = ("heads", ""), ("ratio", ""), ("width", "channels")
    sides = np.full((b, 1, depth + 2), _TOKENS, np.int32)
    stem = (768 + 1000) * width
    return GraphBatch(
        space="transformers",
        vocabulary=vocabulary,
        stages=(0,),
        adjacency=np.repeat(np.eye(depth + 2, k=1, dtype=np.uint8)[None], b, axis=0),
        ops=ops,
        channels=np.repeat(width.astype(np.int32)[:, None, None], depth + 2, axis=2),
        flops=flops,
        params=params,
        total_flops=(flops.sum((1, 2)) + 2 * stem).astype(np.int64),
        total_params=(params.sum((1, 2)) + stem).astype(np.int64),
        resolution=sides,
        positional=True,
        attribute_schema=tuple(
            Attribute(*name, float(low), float(high))
            for name, low, high in zip(names, lows, highs, strict=True)
        ),
        attributes=attributes,
    )


def _padded(lists: pd.Series[Any]) -> Floats:
    longest = max(map(len, lists))
    padded = [
        np.pad(np.asarray(v, float), (0, longest - len(v)), constant_values=np.nan) for v in lists
    ]
    return np.stack(padded)


def _flat(frame: pd.DataFrame) -> Floats:
    """Return decisions as numbers, -1 for one that an architecture has not."""
    flat: Floats = frame.apply(pd.to_numeric).fillna(-1).to_numpy(np.float64)
    return flat


TASKS: dict[str, Callable[[], Task]] = {
    "chains-digits": lambda: chains("chains-digits"),
    "autoformer-tiny": lambda: transformers("tiny"),
    "autoformer-small": lambda: transformers("small"),
}


def one_hot(decisions: Floats) -> Floats:
    """Return (B, sum of choices): 1 where a decision has a value."""
    columns = [column == value for column in decisions.T for value in np.unique(column)]
    return np.column_stack(columns).astype(np.float64)


def one_hot_gp(task: Task, drawn: NDArray[np.intp], asked: NDArray[np.intp]) -> Floats:
    """Score with a Gaussian process on one-hot decisions, on normal scores of the ranks."""
    x = one_hot(task.decisions).astype(np.float32)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    groups = np.zeros(x.shape[1], np.intp)
    labels = normal_scores(task.scores[drawn])
    process = Process.fit(x[drawn], labels, groups, Prior(), 60, lambda done, total: None)
    return process.predict(x[asked])[0]


def flat_trees(task: Task, drawn: NDArray[np.intp], asked: NDArray[np.intp]) -> Floats:
    """Score with boosted trees on the decisions as numbers."""
    x = task.decisions.astype(np.float32)
    grown = Forest.grow(x[drawn], normal_scores(task.scores[drawn]), TreesOptions(), 0)
    found: Floats = grown(x[asked])
    return found


def baselines(
    task: Task, drawn: NDArray[np.intp], asked: NDArray[np.intp]
) -> Iterator[tuple[str, Floats]]:
    """Yield the textbook's baselines, then those that see the decisions."""
    known, rest = task.graphs[drawn], task.graphs[asked]
    for name, baseline in BASELINES.items():
        yield name, baseline(known, task.scores[drawn], rest, int(drawn[0]))
    yield "GP on one-hot decisions", one_hot_gp(task, drawn, asked)
    yield "trees on decisions", flat_trees(task, drawn, asked)


def measured(
    task: Task, labels: int, seed: int, names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Yield (method, tau) on one draw."""
    order = np.random.default_rng(seed).permutation(len(task.scores))
    drawn, asked = order[:labels], order[labels:]
    for name, scores in baselines(task, drawn, asked):
        yield name, float(kendalltau(scores, task.scores[asked]).statistic)
    rest = task.graphs[asked]
    for name in names:
        method, *options = name.split(":")
        values = {key: int(value) for key, value in (option.split("=") for option in options)}
        predictor = get_predictor(method, seed=seed, **values)
        predictor.fit(task.graphs[drawn], task.scores[drawn], unlabelled=rest)
        yield name, float(kendalltau(predictor.predict(rest).mean, task.scores[asked]).statistic)


def summary(rows: pd.DataFrame) -> str:
    """Return a table: means and standard errors of tau, and of what ``default`` gains."""
    lines = [
        "| task | labels | method | tau | default minus it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (task, labels), part in rows.groupby(["task", "labels"], sort=False):
        wide = part.pivot(index="draw", columns="method", values="tau")
        for method in part["method"].unique():
            shown = [_mean(wide[method])]
            shown.append(_mean(wide["default"] - wide[method]) if "default" in wide else "")
            lines.append(f"| {task} | {labels} | {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: pd.Series[float]) -> str:
    return f"{values.mean():.3f} ± {values.std() / np.sqrt(len(values)):.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--labels", default=",".join(map(str, LABELS)))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--predictors", default=",".join(PREDICTORS))
    given = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for name in given.tasks.split(","):
        task = TASKS[name]()
        for labels in map(int, given.labels.split(",")):
            for draw in range(given.draws):
                for method, tau in measured(task, labels, draw, given.predictors.split(",")):
                    place = {"task": name, "labels": labels, "draw": draw}
                    rows.append(place | {"method": method, "tau": tau})
            sys.stderr.write(f"{name}, {labels} labels\n")
    given.folder.mkdir(parents=True, exist_ok=True)
    with replace_file(given.folder / "attributes.parquet") as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    write_text(given.folder / "attributes.md", summary(pd.DataFrame(rows)))
    sys.stdout.write(summary(pd.DataFrame(rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
