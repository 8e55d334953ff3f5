"""Learn what the embedded table ``cells-digits`` teaches about NAS-Bench-101 cells.

    python analysis/transfer.py

writes ``nasplatform/predictors/transfer.safetensors`` anew: the mean weights of three kernels
(accuracy after all and after the first epochs, training loss), and a network that repeats the
predictions of three Gaussian processes on cells of the whole space. Takes about ten minutes on
one core; to be run again when the features change (a test says so).
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import save_file

import nasplatform
from nasplatform.benchmarks.library import load_table
from nasplatform.encodings.cache import Features, features_of
from nasplatform.files import replace_file
from nasplatform.predictors import transfer
from nasplatform.predictors.kernels import Posterior, Prior, fit_kernel
from nasplatform.predictors.ranks import log_gaps
from nasplatform.predictors.standard import SEEN, Standard
from nasplatform.predictors.transfer import Transfer, kind_of
from nasplatform.spaces.graph import GraphBatch

TABLE = "cells-digits"
MEASURED = (("valid_accuracy", 10), ("valid_accuracy", 2), ("train_loss", 10))
LEARNT_FROM = 1200  # cells from which a kernel's weights are learnt
ASKED = 40_000  # cells on which the network listens to the processes
WIDTHS = (128, 32)
STEPS, BATCH = 4000, 256

Array = NDArray[np.float32]


def main() -> int:
    """Learn and write."""
    space, table = nasplatform.get_space("nasbench101"), load_table(TABLE)
    rng = np.random.default_rng(0)
    every = space.enumerate()
    assert every is not None  # this space is finite
    some = space.graphs(every[np.sort(rng.choice(len(every), ASKED, replace=False))])
    cells = space.graphs(table.architectures)
    standard = Standard.of(_seen(some))
    x, asked = standard(cells), standard(some)
    weights, told = [], []
    for metric, epochs in track(MEASURED, "processes"):
        values = table.values(metric, epochs, None)
        scores = log_gaps(-values if metric == "train_loss" else values)
        one, answers = _learn(x, scores, standard, asked, rng)
        weights.append(one)
        told.append(answers)
    layers = _distil(asked, np.stack(told, 1))
    lessons = Transfer(standard, np.stack(weights).mean(0).astype(np.float32), layers)
    path = Path(transfer.__file__).with_name(transfer.FILE)
    about = {"kind": json.dumps(kind_of(cells)), "table": TABLE}
    with replace_file(path) as temporary:
        save_file(lessons.state(), temporary, about)
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")
    return 0


def _seen(graphs: GraphBatch) -> Features:
    return features_of(graphs[:: -(-len(graphs) // SEEN)])


def _learn(
    x: Array,
    scores: NDArray[np.float64],
    standard: Standard,
    asked: Array,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], Array]:
    """Return the log weights (F,) of a kernel, and what its process says of ``asked``, (A,)."""
    few = rng.permutation(len(scores))[:LEARNT_FROM]
    y = (scores - scores.mean()) / scores.std()
    kernel = fit_kernel(x[few].astype(np.float64), y[few], standard.group, Prior(feature=1.5))
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
