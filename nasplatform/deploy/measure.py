"""What a network costs and what it is worth, measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nasplatform.deploy.network import Network
from nasplatform.training.effort import count_macs, threads
from nasplatform.training.loop import evaluate
from nasplatform.training.task import Task

WARM_UP_RUNS = 10
TIMED_RUNS = 100
TIMED_SECONDS = 2.0


@dataclass(frozen=True)
class Measurements:
    """One network on one task.

    accuracy:       on the test split, in [0, 1].
    parameters:     numbers on which the output depends; placeholders are not counted.
    macs:           multiply-adds of convolutions and matrix products for one image.
    bytes_on_disk:  of the saved folder.
    latency_ms:     median time of one image on one thread of the CPU, in milliseconds.
    latency_iqr_ms: range between its quartiles.
    """

    accuracy: float
    parameters: int
    macs: int
    bytes_on_disk: int
    latency_ms: float
    latency_iqr_ms: float


def measure(
    network: Network, task: Task, folder: Path | None = None, device: str = "cpu"
) -> Measurements:
    """Measure a network.

    folder: where it is saved already; None saves it to a temporary folder to weigh it.
    device: where the accuracy is computed; the latency is always that of the CPU.
    """
    accuracy = evaluate(network.module, task.test, device)
    network.module.to("cpu")
    shape = task.input_shape
    median, spread = latency(network.module, shape)
    return Measurements(
        accuracy=accuracy,
        parameters=count_parameters(network.module, shape),
        macs=count_macs(network.module, shape),
        bytes_on_disk=_bytes_of(network, folder),
        latency_ms=median,
        latency_iqr_ms=spread,
    )


def count_parameters(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count the parameters on which the output depends.

    Whether it does is read off the graph of one forward pass, so that parameters that a library
    keeps only as placeholders do not count.
    """
    module.eval()
    parameters = list(module.parameters())
    if not parameters:
        return 0
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            output = module(torch.zeros(1, *input_shape)).sum()
            gradients = torch.autograd.grad(output, parameters, allow_unused=True)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    pairs = zip(parameters, gradients, strict=True)
    return sum(parameter.numel() for parameter, gradient in pairs if gradient is not None)


def latency(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[float, float]:
    """Return median and interquartile range of the time for one image, in milliseconds.

    One thread; after a warm-up at most 100 runs or two seconds, whichever is first.
    """
    module.eval()
    image = torch.zeros(1, *input_shape)
    with threads(1), torch.inference_mode():
        return timed(lambda: module(image))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return median and interquartile range of the time of a call, in milliseconds.

    After a warm-up at most 100 runs or two seconds, whichever is first.
    """
    times: list[int] = []
    for _ in range(WARM_UP_RUNS):
        call()
    end = time.perf_counter() + TIMED_SECONDS
    while len(times) < TIMED_RUNS and (not times or time.perf_counter() < end):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    low, median, high = np.percentile(np.array(times) / 1e6, [25, 50, 75])
    return float(median), float(high - low)


def _bytes_of(network: Network, folder: Path | None) -> int:
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            network.save(Path(temporary) / "network")
            return _bytes_of(network, Path(temporary) / "network")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
