"""How well training-free proxies rank NAS-Bench-201 cells by their CIFAR-10 test accuracy.

    python analysis/proxies.py results/ --images cifar10.npz --cells 250

Needs the table ``nasbench201`` and training images as an npz file (``x_train``, ``y_train``, as the
data set ``npz`` reads them). Random cells are scored one after the other, each by every proxy, and
kept in ``proxies.csv``; a run that was broken off goes on where it stood. Writes Kendall's tau with
a bootstrap error, over all cells and over those whose network learns anything, beside what others
published.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from nasplatform.atomic_io import replace_file
from nasplatform.benchmarks.registry import load_table
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.proxy import ProxyEvaluator, ProxyOptions
from nasplatform.training.datasets import load_task

METRIC = "c10_test_accuracy"
PROXIES = ("params", "flops", "jacov", "naswot", "synflow", "zico")
PUBLISHED = {"jacov": 0.616, "zico": 0.607}  # all cells, as quoted by AZ-NAS (CVPR 2024), table 1
_RESAMPLED = 1000


def score_cells(folder: Path, images: Path, cells: int, batch: int) -> pd.DataFrame:
    """Return one row per cell: its row in the table, its accuracy and every proxy's score."""
    table, task = load_table("nasbench201"), load_task("npz", {"path": str(images)}, "task")
    rows = np.random.default_rng(0).permutation(len(table.architectures))[:cells].tolist()
    accuracy = table.values(METRIC)
    path = folder / "proxies.csv"
    found: list[dict[Any, Any]] = []
    if path.exists():
        found = pd.read_csv(path).to_dict("records")
    context = EvaluationContext(None, task)
    makers = {
        name: ProxyEvaluator(
            ProxyOptions.model_validate({"proxy": name, "batch_size": batch}), table.space, context
        )
        for name in PROXIES
    }
    for row in rows[len(found) :]:
        cell = table.architectures[row]
        told = {name: maker.evaluate(cell, 0, 0) for name, maker in makers.items()}
        scores: dict[Any, Any] = {name: one.score for name, one in told.items()}
        seconds: dict[Any, Any] = {f"{name}_seconds": one.seconds for name, one in told.items()}
        found.append({"row": row, "accuracy": accuracy[row], **scores, **seconds})
        if len(found) % 10 == 0 or len(found) == cells:
            with replace_file(path) as temporary:
                pd.DataFrame(found).to_csv(temporary, index=False)
            sys.stderr.write(f"{len(found)} of {cells} cells\n")
    return pd.DataFrame(found[:cells])


def tau(frame: pd.DataFrame, name: str) -> tuple[float, float]:
    """Return Kendall's tau and its bootstrap error; what is not finite ranks last."""
    scores = frame[name].fillna(-np.inf).to_numpy()
    truth, rng = frame["accuracy"].to_numpy(), np.random.default_rng(0)
    again = []
    for _ in range(_RESAMPLED):
        some = rng.integers(len(frame), size=len(frame))
        again.append(kendalltau(scores[some], truth[some])[0])
    return float(kendalltau(scores, truth)[0]), float(np.std(again))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=250)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    frame = score_cells(given.folder, given.images, given.cells, given.batch)
    alive = frame[frame["accuracy"] > frame["accuracy"].min() + 0.05]
    print(f"{len(frame)} random cells, {len(alive)} of which learn anything; batch {given.batch}\n")
    print("| proxy | tau | tau of those that learn | published, all cells | s a cell |")
    print("|---|---|---|---|---|")
    for name in PROXIES:
        every, some = tau(frame, name), tau(alive, name)
        print(
            f"| {name} | {every[0]:.3f} ± {every[1]:.3f} | {some[0]:.3f} ± {some[1]:.3f} | "
            f"{PUBLISHED.get(name, '')} | {frame[f'{name}_seconds'].median():.2f} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
