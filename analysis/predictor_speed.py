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

import numpy as np
import torch

import nasplatform
from nasplatform.benchmarks.cellnet import vertex_channels
from nasplatform.benchmarks.registry import load_table
from nasplatform.encodings.renas import FLOPS_SCALE, PARAMS_SCALE, renas_tensor
from nasplatform.predictors import get_predictor
from nasplatform.predictors.fitting import unlabelled_of
from nasplatform.predictors.renas import ReNASNetwork
from nasplatform.spaces.base import Population, Space
from nasplatform.spaces.nasbench101 import Cell
from nasplatform.spaces.nasbench101.cells import CONV1X1, CONV3X3, MAXPOOL3X3

LABELS = 424
METHODS = ("gp-trees", "default", "renas", "renas cell by cell")
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
        drawn = np.random.default_rng(0).choice(len(every), CELL_BY_CELL, replace=False)
        wall, cpu = _timed(lambda: _cell_by_cell(every[drawn]))
        _compare(space, every[drawn[:50]])
        times = {"fit": (0.0, 0.0), "score": _scaled((wall, cpu), len(every) / CELL_BY_CELL)}
    else:
        predictor, unlabelled = get_predictor(method), unlabelled_of(space, 0)
        times = {
            "fit": _timed(lambda: predictor.fit(graphs, scores, unlabelled)),
            "score": _timed(lambda: predictor.predict(space.graphs(every))),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**times, "memory": peak}


def _cell_by_cell(cells: Population[Cell]) -> None:
    network = ReNASNetwork(19, 7).eval()
    with torch.no_grad():
        for start in range(0, len(cells), 256):
            part = [plain_tensor(cell) for cell in cells[start : start + 256]]
            network(torch.stack(part))


def plain_tensor(cell: Cell) -> torch.Tensor:
    """Return the ReNAS tensor (19, 7, 7) of one cell, written down as the paper words it."""
    matrix, ops = cell.arrays
    n = len(ops)
    place = [*range(n - 1), 6]  # padding stands before the output
    tensor = torch.zeros(19, 7, 7)
    for cell_index in range(9):
        width, area = 128 << cell_index // 3, (32 >> cell_index // 3) ** 2
        incoming = 128 if cell_index == 0 else 128 << (cell_index - 1) // 3
        channels = vertex_channels(matrix, incoming, width)
        for v in range(n):
            taps = {CONV3X3: 9, CONV1X1: 1}.get(int(ops[v]), 0) if 0 < v < n - 1 else 0
            projected = int(matrix[0, v])
            weights = (projected * incoming + taps * channels[v]) * channels[v]
            params = weights + 2 * channels[v] * (projected + (taps > 0))
            meeting = max(int(matrix[:, v].sum()) - 1, 0)
            if v == n - 1:
                meeting = projected * int(matrix[1:-1, v].any())
            pooling = 9 if 0 < v < n - 1 and int(ops[v]) == MAXPOOL3X3 else 0
            flops = (2 * weights + (meeting + pooling) * channels[v]) * area
            for u in range(v):
                if matrix[u, v]:
                    at = place[u], place[v]
                    tensor[0][at] = int(ops[v]) + 1
                    tensor[1 + 2 * cell_index][at] = flops / FLOPS_SCALE
                    tensor[2 + 2 * cell_index][at] = params / PARAMS_SCALE
    return tensor


def _compare(space: Space[Cell], cells: Population[Cell]) -> None:
    """Make sure that both ways compute the same."""
    plain = torch.stack([plain_tensor(cell) for cell in cells]).numpy()
    np.testing.assert_allclose(plain, renas_tensor(space.graphs(cells)), rtol=1e-6)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def _scaled(times: tuple[float, float], factor: float) -> tuple[float, float]:
    return times[0] * factor, times[1] * factor


if __name__ == "__main__":
    raise SystemExit(main())
