"""Compare predictors on spaces of numeric choices: chains and vision transformers.

    NASPLATFORM_DATA=... python analysis/predictors_attributes.py results/ --draws 10

Tasks: the embedded tables of chains and of transformers; from NASPLATFORM_DATA AutoFormer's subnets
(Chen et al., ICCV 2021) of two sizes with their accuracy on ImageNet with inherited weights
(``vit_autoformer_imagenet.parquet``), and those that ViT-Bench-101 (Auto-Prox, AAAI 2024) trained
from scratch with distillation on CIFAR-100 and on Flowers (``vit_autoprox.parquet``).
Beside the usual baselines the embedding alone, and those that see the decisions as they are:
one-hot in a Gaussian process and as numbers, with parameters and FLOPs, in boosted trees and in a
Gaussian process. Writes ``attributes.parquet``, a row a draw, and ``attributes.md``: Kendall's tau
on all that was not drawn, mean and standard error, and the paired difference to ``default``.
"""

from __future__ import annotations

import argparse
import json
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
from nasplatform.spaces import GraphBatch, Space, get_space
from nasplatform.spaces.vit.architecture import (
    Attention,
    FeedForward,
    Layer,
    Stage,
    VisionTransformer,
)

Floats = NDArray[np.float64]
LABELS = (50, 100, 200)
PREDICTORS = ("default", "default:distilled_gnns=0", "gp-trees", "gp", "trees")
_HEAD = 64  # channels of an attention head of AutoFormer


@dataclass(frozen=True)
class Task:
    """Graphs, the decisions that made them as numbers (B, P), and their scores (B,)."""

    graphs: GraphBatch
    decisions: Floats
    scores: Floats


def embedded(name: str) -> Task:
    """Return an embedded table."""
    table = load_table(name)
    return task(table.space, table.architectures, table.values(table.score))


def autoformer(size: str) -> Task:
    """Return the subnets of a supernet of AutoFormer; what two of them share keeps its mean."""
    rows = _rows("vit_autoformer_imagenet.parquet").query("space == @size")
    subnets = [
        subnet(*one)
        for one in zip(rows["embed_dim"], rows["num_heads"], rows["mlp_ratio"], strict=True)
    ]
    space = get_space("vit", subspace=f"autoformer-{size}")
    return task(space, subnets, rows["imagenet_top1"].to_numpy(np.float64))


def autoprox(label: str) -> Task:
    """Return the subnets of ViT-Bench-101 with one of its labels; its two files are alike in it."""
    rows = _rows("vit_autoprox.parquet").query("space == 'autoformer'")
    known = [json.loads(text) for text in rows["arch"]]
    subnets = [subnet(one["hidden_dim"], one["num_heads"], one["mlp_ratio"]) for one in known]
    space = get_space("vit", subspace="autoformer-tiny", classes=100)
    return task(space, subnets, rows[label].to_numpy(np.float64))


def subnet(width: int, heads: Sequence[int], ratios: Sequence[float]) -> VisionTransformer:
    """Return a subnet of AutoFormer."""
    layers = tuple(
        Layer(Attention(int(number), _HEAD * int(number)), FeedForward(round(100 * ratio)))
        for number, ratio in zip(heads, ratios, strict=True)
    )
    stage = Stage(int(width), layers, positions="learned", relative="keys-values")
    return VisionTransformer((stage,), tokens=1)


def task(space: Space[Any], architectures: Sequence[Any], scores: Floats) -> Task:
    """Return a task of architectures that all have a score."""
    found = np.isfinite(scores)
    known = space.population(architectures)[found]
    params = [space.to_params(one) for one in known]
    frame = pd.DataFrame(params, columns=list(space.distributions()))
    return Task(space.graphs(known), _flat(frame), scores[found])


def _rows(name: str) -> pd.DataFrame:
    return pd.read_parquet(Path(os.environ["NASPLATFORM_DATA"]) / name)


def _flat(frame: pd.DataFrame) -> Floats:
    """Return decisions as numbers, words as their place in the alphabet, -1 for one that is not."""
    columns = [
        frame[name].astype("category").cat.codes
        if frame[name].dtype.kind not in "if"
        else frame[name]
        for name in frame
    ]
    return np.column_stack([column.fillna(-1).to_numpy(np.float64) for column in columns])


TASKS: dict[str, Callable[[], Task]] = {
    "chains-digits": lambda: embedded("chains-digits"),
    "vit-digits": lambda: embedded("vit-digits"),
    "autoformer-tiny": lambda: autoformer("tiny"),
    "autoformer-small": lambda: autoformer("small"),
    "autoprox-cifar100": lambda: autoprox("c100_kd_acc"),
    "autoprox-flowers": lambda: autoprox("flower_kd_acc"),
}


def one_hot(decisions: Floats) -> Floats:
    """Return (B, sum of choices): 1 where a decision has a value."""
    columns = [column == value for column in decisions.T for value in np.unique(column)]
    return np.column_stack(columns).astype(np.float64)


def flat_gp(
    x: NDArray[np.floating[Any]], task: Task, drawn: NDArray[np.intp], asked: NDArray[np.intp]
) -> Floats:
    """Score with a Gaussian process on columns (B, P), on normal scores of the ranks."""
    x = x.astype(np.float32)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    groups = np.zeros(x.shape[1], np.intp)
    labels = normal_scores(task.scores[drawn])
    process = Process.fit(x[drawn], labels, groups, Prior(), 60, lambda done, total: None)
    return process.predict(x[asked])[0]


def flat_numbers(task: Task) -> NDArray[np.float32]:
    """Return (B, P + 2): the decisions as numbers, parameters and FLOPs."""
    totals = np.log([task.graphs.total_params, task.graphs.total_flops])
    return np.column_stack([task.decisions, *totals]).astype(np.float32)


def flat_trees(task: Task, drawn: NDArray[np.intp], asked: NDArray[np.intp]) -> Floats:
    """Score with boosted trees on flat numbers."""
    x = flat_numbers(task)
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
    yield "embedding", rest.channels[:, 0, -1].astype(np.float64)
    yield "GP on one-hot decisions", flat_gp(one_hot(task.decisions), task, drawn, asked)
    yield "GP on flat numbers", flat_gp(flat_numbers(task), task, drawn, asked)
    yield "trees on flat numbers", flat_trees(task, drawn, asked)


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
            if labels > len(task.scores) - 2:
                continue
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
