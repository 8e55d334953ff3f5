"""A pruned transformer: what it loses, and how much faster it is (``analysis/vit.py prune``)."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplatform.models.network import Network
from nasplatform.runtimes.measure import latencies
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task


def add_options(part: argparse.ArgumentParser) -> None:
    """Add the options of ``prune``."""
    part.add_argument("--out", type=Path, default=Path("runs/vit-prune"))
    part.add_argument("--seeds", type=int, default=5)
    part.add_argument("--keep", type=float, default=0.6, help="share of the multiply-adds left")
    part.add_argument("--architecture", default="average/conv2s2+w96+learned:2*h4w96-mlp4")
    part.add_argument("--epochs", type=int, default=12, help="of the first training")
    part.add_argument("--tune", type=int, default=6, help="epochs of fine-tuning")
    part.add_argument("--learning-rate", type=float, default=0.002)
    part.add_argument("--train-size", type=int, default=4000)
    part.add_argument("--test-size", type=int, default=10_000)
    part.add_argument("--rounds", type=int, default=5, help="of the latency")


def prune(options: argparse.Namespace) -> None:
    """Print a row for each seed, and the means with their standard errors."""
    size = {"pool": 2, "train_size": options.train_size, "test_size": options.test_size}
    task = load_task("fashion-mnist", size | {"valid_size": 500}, "command line")
    print("| seed | before % | after % | change | multiply-adds | parameters | latency |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for seed in range(options.seeds):
        rows.append(_pruned(options, task, seed))
        print(_row(str(seed), rows[-1]), flush=True)
    mean, error = (np.stack(rows).mean(0), np.stack(rows).std(0, ddof=1) / len(rows) ** 0.5)
    print(_row("mean", mean))
    print(_row("standard error", error))


def _pruned(options: argparse.Namespace, task: Task, seed: int) -> NDArray[np.float64]:
    """Return accuracies before and after in %, their difference, and three shares."""
    recipe = {"optimizer": {"name": "adamw"}, "weight_decay": 0.05}
    first = {"epochs": options.epochs, "learning_rate": options.learning_rate, **recipe}
    second = {"epochs": options.tune, "learning_rate": options.learning_rate / 2, **recipe}
    budget = {"metric": "macs", "keep": options.keep}
    folder = options.out / f"seed-{seed}"
    about = {"architecture": options.architecture, "input_shape": task.input_shape}
    start = Network.named("vit", seed, classes=task.classes, **about)
    base, [trained] = run_pipeline(
        start, task, [("train", {"recipe": first})], folder / "base", seed
    )
    cut = {"recipe": second, "budget": budget, "control": {"epochs": 5}}
    name = f"scop-{options.keep}-{options.tune}"
    small, [record] = run_pipeline(base, task, [("scop", cut)], folder / name, seed)
    before, after = trained["after"]["accuracy"], record["after"]["accuracy"]
    times = np.array(
        [
            [latencies(n.module, task.input_shape, (64,))[0].median_ms for n in (base, small)]
            for _ in range(options.rounds)
        ]
    ).min(0)
    shares = (record["metrics"][f"{size}_kept"] for size in ("macs", "params"))
    return np.array(
        [100 * before, 100 * after, 100 * (after - before), *shares, times[1] / times[0]]
    )


def _row(name: str, values: NDArray[np.float64]) -> str:
    shown = [*(f"{value:.2f}" for value in values[:3]), *(f"{value:.3f}" for value in values[3:])]
    return f"| {' | '.join([name, *shown])} |"
