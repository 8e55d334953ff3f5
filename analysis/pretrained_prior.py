"""Learn what the embedded digits teach about the cells of NAS-Bench-101 and NAS-Bench-201.

    python analysis/pretrained_prior.py runs/source-tasks

writes ``nasplatform/predictors/pretrained-prior-SPACE.safetensors`` anew: the weights of a kernel,
and a network that repeats what Gaussian processes on small trained networks say of the whole space.
NAS-Bench-101 is taught by the embedded table ``cells-digits`` and by 5,000 cells trained here with
five times its learning rate, NAS-Bench-201 by 1,500 cells trained here with twenty times its rate:
close to where trainings fail, digits tell best which cells are easy to train
(``analysis/pretrained_prior_rates.py`` measures it). Trained networks are kept in the folder, and a
run that was broken off goes on. About half an hour on one core; to be run again when the features
change (a test says so).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

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
from nasplatform.predictors import pretrained_prior
from nasplatform.predictors.feature_scaling import SEEN, FeatureScaling
from nasplatform.predictors.kernels import Posterior, Prior, fit_kernel
from nasplatform.predictors.pretrained_prior import PretrainedPrior, kind_of
from nasplatform.predictors.target_maps import Floats, log_gaps
from nasplatform.spaces.graph import GraphBatch
from nasplatform.spaces.nasbench101.cells import CONV3X3, Cell
from nasplatform.spaces.nasbench201.cells import digits
from nasplatform.training.datasets import load_task

TABLE = "cells-digits"
OF_TABLE = (("valid_accuracy", 10), ("valid_accuracy", 2), ("train_loss", 10))
DIGITS = {"noise": 1.0, "seed": 0}  # as in the table
AT = (4, 7, 10)  # epochs after which a training is looked at; the last is its end
LEARNT_FROM = 1200  # cells from which a kernel's weights are learnt
ASKED = 40_000  # cells on which the network listens to the processes
WIDTHS = (128, 32)
STEPS, BATCH = 4000, 256
KEPT = 100  # cells trained between two writes

Array = NDArray[np.float32]
Splits = tuple[Images, Images, Images]
Trained = NDArray[np.float64]
"""(2, E) training loss and number of images classified correctly after each of the E of AT."""


@dataclass(frozen=True)
class Teacher:
    """Cells of one set of trainings: graphs (n), and T scores of each, higher is better."""

    graphs: GraphBatch
    scores: tuple[Floats, ...]


def main() -> int:
    """Train what is missing, learn and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    data = digits_data()
    for name, teachers in (("nasbench101", _nasbench101), ("nasbench201", _nasbench201)):
        _write(name, teachers(folder, data))
    return 0


def digits_data() -> Splits:
    """Return the splits of the embedded digits."""
    task = load_task("digits", DIGITS, TABLE)
    train, valid, test = (
        Images(split.inputs[:].numpy(), split.labels.numpy())
        for split in (task.train, task.valid, task.test)
    )
    return train, valid, test


def train_nasbench101(code: int, data: Splits, rate: float) -> Trained:
    """Train the small network of a NAS-Bench-101 cell."""
    matrix, ops = Cell(code).arrays
    kinds = (ops - CONV3X3).astype(np.int8)
    recipe = Recipe(learning_rate=rate, evaluate_at=AT)
    return _seen_after(train_cell(matrix, kinds, *data, recipe, 0))


def train_nasbench201(code: int, data: Splits, rate: float) -> Trained:
    """Train the small network of a NAS-Bench-201 cell."""
    recipe = Recipe(learning_rate=rate, evaluate_at=AT)
    return _seen_after(train_cell201(digits()[code], *data, recipe, 0))


def _seen_after(curve: LearningCurve) -> Trained:
    return np.stack([curve.train_loss, curve.valid_correct + curve.test_correct])


def _nasbench101(folder: Path, data: Splits) -> list[Teacher]:
    space, table = nasplatform.get_space("nasbench101"), load_table(TABLE)
    cells = CellGroup((2, 7), seeds=1, sample=5000).draw(space)
    path = folder / "nasbench101.npz"
    fast = _trained(path, cells.labels, lambda code: train_nasbench101(code, data, rate=0.5))
    told = []
    for metric, epochs in OF_TABLE:
        values = table.values(metric, epochs, None)
        told.append(log_gaps(-values if metric == "train_loss" else values))
    slow = Teacher(space.graphs(table.architectures), tuple(told))
    return [slow, Teacher(space.graphs(cells), fast)]


def _nasbench201(folder: Path, data: Splits) -> list[Teacher]:
    space = nasplatform.get_space("nasbench201")
    every = space.enumerate()
    assert every is not None  # this space is finite
    cells = every[np.random.default_rng(0).permutation(len(every))[:1500]]
    path = folder / "nasbench201.npz"
    told = _trained(path, cells.labels, lambda code: train_nasbench201(code, data, rate=2.0))
    return [Teacher(space.graphs(cells), told)]


def _trained(
    path: Path, codes: NDArray[np.uint64], train: Callable[[int], Trained]
) -> tuple[Floats, ...]:
    """Train every cell that the file does not hold yet.

    Returns scores (n,): by training loss at each of AT, then by accuracy at all but the first.
    """
    known = np.empty((0, 2, len(AT)))  # cells, loss and correct images, epochs
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            known = file["curves"] if np.array_equal(file["codes"], codes) else known
    curves = list(known)
    for code in track(codes[len(curves) :].tolist(), path.stem):
        curves.append(train(code))
        if len(curves) % KEPT == 0 or len(curves) == len(codes):
            with replace_file(path) as temporary, temporary.open("wb") as out:
                np.savez(out, codes=codes, curves=np.array(curves))
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
    weights, told, source = [], [], []
    for place, teacher in enumerate(teachers):
        x = scaling(teacher.graphs)
        for scores in track(teacher.scores, f"{name}: processes"):
            one, answers = _learn(x, scores, scaling, asked, rng)
            weights.append(one)
            told.append(answers)
            source.append(place)
    layers = _distil(asked, np.stack(told, 1))
    first = source.count(0)
    mean = np.stack(weights[:first]).mean(0).astype(np.float32)
    prior = PretrainedPrior(scaling, mean, layers, np.array(source))
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
