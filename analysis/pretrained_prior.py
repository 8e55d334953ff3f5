"""Learn what small trainings teach about the cells of NAS-Bench-101 and NAS-Bench-201.

    python analysis/pretrained_prior.py runs/source-tasks --images cifar100.npz

writes ``nasplatform/predictors/pretrained-prior-SPACE.safetensors`` anew: the weights of a kernel,
and a network that repeats what Gaussian processes on small trained networks say of the whole space.
5,000 cells of NAS-Bench-101 and 1,500 of NAS-Bench-201 are trained here twice: on the embedded
digits, with five and twenty times the learning rate of the embedded table, for close to where
trainings fail digits tell best which cells are easy to train; and on photographs, 12,000 of
CIFAR-100 averaged to 8 x 8 pixels, in the first sixteen of its coarse classes, for three epochs.
``analysis/pretrained_prior_rates.py`` measures the rates. NAS-Bench-101 is also taught by the
embedded table ``cells-digits``. The file has ``x_train`` (n, 32, 32, 3) uint8 and ``y_train`` (n,),
the coarse labels; what is shipped was made of 20,000 training images, 200 of each fine class.
Trained networks are kept in the folder, and a run that was broken off goes on. Some 80 minutes on
one core; to be run again when the features change (a test says so).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import save_file

import nasplatform
from nasplatform.atomic_io import replace_file
from nasplatform.benchmarks.cellnet import Images, LearningCurve, Recipe, train_cell, train_cell201
from nasplatform.benchmarks.embedded import CellGroup
from nasplatform.benchmarks.registry import load_table
from nasplatform.encodings.cache import Features, features_of
from nasplatform.errors import DataError
from nasplatform.predictors import pretrained_prior
from nasplatform.predictors.feature_scaling import SEEN, FeatureScaling
from nasplatform.predictors.kernels import Posterior, Prior, fit_kernel
from nasplatform.predictors.pretrained_prior import PretrainedPrior, kind_of
from nasplatform.predictors.target_maps import Floats, log_gaps
from nasplatform.spaces.base import Population, Space
from nasplatform.spaces.graph import GraphBatch
from nasplatform.spaces.nasbench101.cells import CONV3X3, Cell
from nasplatform.spaces.nasbench201.cells import digits
from nasplatform.training.datasets import load_task

TABLE = "cells-digits"
OF_TABLE = (("valid_accuracy", 10), ("valid_accuracy", 2), ("train_loss", 10))
DIGITS = {"noise": 1.0, "seed": 0}  # as in the table
LOOKS = 3  # at a training; the last is its end
SIDE = 8  # pixels
CLASSES = 16  # as many as the small networks can tell apart
LEARNT, EVALUATED = 12_000, 3_000  # photographs
LEARNT_FROM = 1200  # cells from which a kernel's weights are learnt
ASKED = 40_000  # cells on which the network listens to the processes
WIDTHS = (128, 32)
STEPS, BATCH = 4000, 256
KEPT = 100  # cells trained between two writes

Array = NDArray[np.float32]
Splits = tuple[Images, Images, Images]
Trained = NDArray[np.float64]
"""(2, LOOKS) training loss, and number of images classified correctly."""


@dataclass(frozen=True)
class Lesson:
    """Images, and how long the small networks are trained on them, at which rate."""

    name: str
    splits: Splits
    recipe: Recipe

    def at(self, rate: float) -> Lesson:
        """Return the same with another learning rate."""
        return replace(self, recipe=replace(self.recipe, learning_rate=rate))


@dataclass(frozen=True)
class Teacher:
    """Cells of one set of trainings: graphs (n), and T scores of each, higher is better."""

    graphs: GraphBatch
    scores: tuple[Floats, ...]


def main() -> int:
    """Train what is missing, learn and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="CIFAR-100, coarse labels")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    drawn, taken = digits_lesson(), photographs_lesson(given.images)
    _write("nasbench101", _nasbench101(given.folder, drawn.at(0.5), taken.at(0.3)))
    _write("nasbench201", _nasbench201(given.folder, drawn.at(2.0), taken.at(1.0)))
    return 0


def digits_lesson() -> Lesson:
    """Return the splits of the embedded digits, and ten epochs of them."""
    task = load_task("digits", DIGITS, TABLE)
    train, valid, test = (
        Images(split.inputs[:].numpy(), split.labels.numpy())
        for split in (task.train, task.valid, task.test)
    )
    return Lesson("digits", (train, valid, test), Recipe(evaluate_at=(4, 7, 10)))


def photographs_lesson(path: Path) -> Lesson:
    """Return 12,000 small photographs to learn from and 3,000 others, and three epochs of them."""
    with np.load(path, allow_pickle=False) as file:
        images, labels = file["x_train"], file["y_train"].astype(np.int64)
    known = np.flatnonzero(labels < CLASSES)
    if known.size < LEARNT + EVALUATED:
        raise DataError(
            f"{path}: {known.size:,} images in classes 0 to {CLASSES - 1}, "
            f"{LEARNT + EVALUATED:,} are needed; are these the coarse labels?"
        )
    rows = np.random.default_rng(0).permutation(known.size)
    images, labels = images[known[rows]], labels[known[rows]]
    every, fold = len(images), images.shape[1] // SIDE
    folded = images.astype(np.float32).reshape(every, SIDE, fold, SIDE, fold, 3)
    small = folded.mean((2, 4)).transpose(0, 3, 1, 2)
    small = (small - small.mean((0, 2, 3), keepdims=True)) / small.std((0, 2, 3), keepdims=True)
    half = EVALUATED // 2
    parts = slice(LEARNT), slice(every - EVALUATED, every - half), slice(every - half, every)
    train, valid, test = (Images(small[part], labels[part]) for part in parts)
    recipe = Recipe(classes=CLASSES, epochs=3, evaluate_at=(1, 2, 3))
    return Lesson("photographs", (train, valid, test), recipe)


def train_nasbench101(code: int, lesson: Lesson) -> Trained:
    """Train the small network of a NAS-Bench-101 cell."""
    matrix, ops = Cell(code).arrays
    kinds = (ops - CONV3X3).astype(np.int8)
    return _seen_after(train_cell(matrix, kinds, *lesson.splits, lesson.recipe, 0))


def train_nasbench201(code: int, lesson: Lesson) -> Trained:
    """Train the small network of a NAS-Bench-201 cell."""
    return _seen_after(train_cell201(digits()[code], *lesson.splits, lesson.recipe, 0))


def _seen_after(curve: LearningCurve) -> Trained:
    return np.stack([curve.train_loss, curve.valid_correct + curve.test_correct])


def _nasbench101(folder: Path, *lessons: Lesson) -> list[Teacher]:
    space, table = nasplatform.get_space("nasbench101"), load_table(TABLE)
    cells = CellGroup((2, 7), seeds=1, sample=5000).draw(space)
    told = []
    for metric, epochs in OF_TABLE:
        values = table.values(metric, epochs, None)
        told.append(log_gaps(-values if metric == "train_loss" else values))
    slow = Teacher(space.graphs(table.architectures), tuple(told))
    return [slow, *_teachers(folder, space, cells, train_nasbench101, lessons)]


def _nasbench201(folder: Path, *lessons: Lesson) -> list[Teacher]:
    space = nasplatform.get_space("nasbench201")
    every = space.enumerate()
    assert every is not None  # this space is finite
    cells = every[np.random.default_rng(0).permutation(len(every))[:1500]]
    return _teachers(folder, space, cells, train_nasbench201, lessons)


def _teachers(
    folder: Path,
    space: Space[Any],
    cells: Population[Any],
    train: Callable[[int, Lesson], Trained],
    lessons: Sequence[Lesson],
) -> list[Teacher]:
    graphs = space.graphs(cells)
    return [
        Teacher(graphs, _trained(folder / f"{space.name}-{lesson.name}.npz", cells, train, lesson))
        for lesson in lessons
    ]


def _trained(
    path: Path, cells: Population[Any], train: Callable[[int, Lesson], Trained], lesson: Lesson
) -> tuple[Floats, ...]:
    """Train every cell that the file does not hold yet by the lesson's recipe.

    Returns scores (n,): by training loss at each of LOOKS, then by accuracy at all but the first.
    """
    codes, recipe = cells.labels, repr(lesson.recipe)
    known = np.empty((0, 2, LOOKS))  # cells, loss and correct images, epochs
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            same = str(file["recipe"]) == recipe and np.array_equal(file["codes"], codes)
            known = file["curves"] if same else known
    curves = list(known)
    for code in track(codes[len(curves) :].tolist(), path.stem):
        curves.append(train(code, lesson))
        if len(curves) % KEPT == 0 or len(curves) == len(codes):
            with replace_file(path) as temporary, temporary.open("wb") as out:
                np.savez(out, codes=codes, recipe=recipe, curves=np.array(curves))
    loss, correct = np.array(curves).transpose(1, 2, 0)
    return tuple(log_gaps(values) for values in [*-loss, *correct[1:]])


def _write(name: str, teachers: list[Teacher]) -> None:
    """Learn from the teachers of a space; the first one's kernels give the weights."""
    space, rng = nasplatform.get_space(name), np.random.default_rng(0)
    every = space.enumerate()
    assert every is not None  # this space is finite
    count = min(ASKED, len(every))
    some = space.graphs(every[np.sort(rng.choice(len(every), count, replace=False))])
    scaling = FeatureScaling.of(_seen(some))
    asked = scaling(some)
    weights, told = [], []
    for teacher in teachers:
        x = scaling(teacher.graphs)
        for scores in track(teacher.scores, f"{name}: processes"):
            one, answers = _learn(x, scores, scaling, asked, rng)
            weights.append(one)
            told.append(answers)
    layers = _distil(asked, np.stack(told, 1))
    first = len(teachers[0].scores)
    mean = np.stack(weights[:first]).mean(0).astype(np.float32)
    prior = PretrainedPrior(scaling, mean, layers)
    path = Path(pretrained_prior.__file__).with_name(f"pretrained-prior-{name}.safetensors")
    with replace_file(path) as temporary:
        save_file(prior.state(), temporary, {"kind": json.dumps(kind_of(some))})
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")


def _seen(graphs: GraphBatch) -> Features:
    return features_of(graphs[:: -(-len(graphs) // SEEN)])


def _learn(
    x: Array, scores: Floats, scaling: FeatureScaling, asked: Array, rng: np.random.Generator
) -> tuple[Floats, Array]:
    """Return the log weights (F,) of a kernel, and what its process says of ``asked``, (A,)."""
    few = rng.permutation(len(scores))[:LEARNT_FROM]
    y = (scores - scores.mean()) / scores.std()
    kernel = fit_kernel(x[few].astype(np.float64), y[few], scaling.group, Prior(feature=1.5))
    process = Posterior.of(kernel, x.astype(np.float64), y)
    known, alpha = x, process.alpha.astype(np.float32)
    parts = [kernel(asked[at : at + 4096], known) @ alpha for at in range(0, len(asked), 4096)]
    return np.log(kernel.weights), np.concatenate(parts)


def _distil(asked: Array, told: Array) -> tuple[tuple[Array, Array], ...]:
    """Return the layers of a network that maps ``asked`` (A, F) to ``told`` (A, T)."""
    torch.manual_seed(0)
    sizes = [asked.shape[1], *WIDTHS, told.shape[1]]
    linear = [torch.nn.Linear(i, o) for i, o in pairwise(sizes)]
    silu = torch.nn.SiLU
    network = torch.nn.Sequential(linear[0], silu(), linear[1], silu(), linear[2])
    inputs, targets = torch.from_numpy(asked), torch.from_numpy((told - told.mean(0)) / told.std(0))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS)
    for _ in track(range(STEPS), "network"):
        rows = torch.randint(len(inputs), (BATCH,))
        loss = torch.nn.functional.mse_loss(network(inputs[rows]), targets[rows])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return tuple(
        (layer.weight.detach().T.contiguous().numpy(), layer.bias.detach().numpy())
        for layer in linear
    )


if __name__ == "__main__":
    raise SystemExit(main())
