"""How well small trainings agree with CIFAR-10 at several rates: why ``pretrained_prior`` chose.

    python analysis/pretrained_prior_rates.py --cells 250
    python analysis/pretrained_prior_rates.py --cells 100 --images cifar100.npz

prints, for each space and learning rate, Kendall's tau between the CIFAR-10 accuracy of random
cells and what the digits (with ``--images`` the photographs) say of them after each look at a
training, by training loss and by accuracy, one training each, with its bootstrap standard error. Of
NAS-Bench-101 it asks cells of the training side of protocol ``tnasp`` alone; NAS-Bench-201 has no
such side, so the cells chosen by are among those judged. Needs both tables imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pretrained_prior import (
    Lesson,
    Trained,
    digits_lesson,
    photographs_lesson,
    train_nasbench101,
    train_nasbench201,
)
from rich.progress import track
from scipy.stats import kendalltau

from nasplatform.benchmarks.registry import load_table
from nasplatform.predictors.target_maps import Floats

RATES = (0.1, 0.3, 0.5, 1.0, 2.0)
RESAMPLES = 200


def cells_with_labels(name: str) -> tuple[list[int], Floats]:
    """Return codes (n) of cells that may be asked, and their CIFAR-10 accuracies (n,)."""
    if name == "nasbench101":
        table = load_table("nasbench101-measured")
        labels = table.values("valid_accuracy", 108, 0)
        judged = np.isfinite(table.values("test_accuracy_mean3", 108, None))
        rows = np.flatnonzero(np.isfinite(labels) & ~judged)
    else:
        table = load_table("nasbench201")
        labels = table.values("c10_valid_accuracy", 200, 0)
        _, rows = np.unique(table.architectures.keys, return_index=True)  # one of each class
    return table.architectures[rows].labels.tolist(), labels[rows]


def agreement(said: Floats, labels: Floats, rng: np.random.Generator) -> str:
    """Return tau of two (n,) with its bootstrap standard error."""
    draws = rng.integers(len(labels), size=(RESAMPLES, len(labels)))
    error = np.std([kendalltau(said[rows], labels[rows])[0] for rows in draws])
    return f"{kendalltau(said, labels)[0]:.2f} ± {error:.2f}"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--cells", type=int, default=250, help="of each space")
    parser.add_argument("--images", type=Path, help="photographs, as pretrained_prior reads them")
    given = parser.parse_args()
    lesson = photographs_lesson(given.images) if given.images else digits_lesson()
    trainers: dict[str, Callable[[int, Lesson], Trained]] = {
        "nasbench101": train_nasbench101,
        "nasbench201": train_nasbench201,
    }
    looks = lesson.recipe.evaluate_at
    heads = [f"{kind}, {epochs}" for kind in ("loss", "accuracy") for epochs in looks]
    print("| space | learning rate | " + " | ".join(heads) + " |")
    print("|---" * (2 + len(heads)) + "|")
    for name, train in trainers.items():
        rng = np.random.default_rng(0)
        codes, labels = cells_with_labels(name)
        chosen = rng.permutation(len(codes))[: given.cells]
        for rate in RATES:
            at = lesson.at(rate)
            curves = [train(codes[i], at) for i in track(chosen, f"{name} {rate}")]
            loss, correct = np.array(curves).transpose(1, 2, 0)
            said = [*np.where(np.isfinite(loss), -loss, -np.inf), *correct]  # diverged: the worst
            cells = [agreement(one, labels[chosen], rng) for one in said]
            print(f"| {name} | {rate} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
