"""How fast predictors are: fit to 424 labels, score all 423,624 cells of NAS-Bench-101.

    python analysis/predictor_speed.py

Labels are those of 424 cells of the embedded table. Each predictor works in a process of its own,
with all cores; scoring starts from the enumerated cells, encoding included. Beside ``renas`` stands
the straightforward way: costs and tensor of one cell after the other, and the network in PyTorch as
it was trained.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

import nasplatform
from nasplatform.benchmarks.library import load_table
from nasplatform.encodings.renas import renas_tensor
from nasplatform.predictors import get_predictor
from nasplatform.predictors.renas import ReNASNetwork
from nasplatform.predictors.standard import unlabelled_of
from nasplatform.spaces.base import Population, Space

LABELS = 424
METHODS = ("simple", "default", "renas", "renas cell by cell")
CELL_BY_CELL = 4096  # cells scored the straightforward way; the time is scaled up


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every method in a fresh process, or the one that is named in this process."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given:
        sys.stdout.write(json.dumps(measured(given[0])))
        return 0
    print("| predictor | fit, s (CPU s) | score all cells, s (CPU s) | peak memory, GB |")
    print("|---|---|---|---|")
    for method in METHODS:
        words = [sys.executable, __file__, method]
        found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        times = (f"{found[part][0]:.1f} ({found[part][1]:.1f})" for part in ("fit", "score"))
        print(f"| {method} | {' | '.join(times)} | {found['memory']:.2f} |", flush=True)
    return 0


def measured(method: str) -> dict[str, object]:
    """Return wall and CPU seconds of fitting and scoring, and the process's peak memory in GB."""
    space, table = nasplatform.get_space("nasbench101"), load_table("cells-digits")
    rows = np.random.default_rng(0).choice(len(table.architectures), LABELS, replace=False)
    graphs = space.graphs(table.architectures[rows])
    scores = table.values("valid_accuracy", 10, None)[rows]
    every = space.enumerate()
    assert every is not None  # this space is finite
    if method == METHODS[-1]:
        wall, cpu = _timed(lambda: _cell_by_cell(space, every[:CELL_BY_CELL]))
        times = {"fit": (0.0, 0.0), "score": _scaled((wall, cpu), len(every) / CELL_BY_CELL)}
    else:
        predictor, unlabelled = get_predictor(method), unlabelled_of(space, 0)
        times = {
            "fit": _timed(lambda: predictor.fit(graphs, scores, unlabelled)),
            "score": _timed(lambda: predictor.predict(space.graphs(every))),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**times, "memory": peak}


def _cell_by_cell(space: Space[Any], cells: Population[Any]) -> None:
    tensors = [torch.from_numpy(renas_tensor(space.graphs([cell]))) for cell in cells]
    network = ReNASNetwork(*tensors[0].shape[1:3]).eval()
    with torch.no_grad():
        for start in range(0, len(tensors), 256):
            network(torch.cat(tensors[start : start + 256]))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def _scaled(times: tuple[float, float], factor: float) -> tuple[float, float]:
    return times[0] * factor, times[1] * factor


if __name__ == "__main__":
    raise SystemExit(main())
