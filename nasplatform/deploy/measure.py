"""What a network costs and what it is worth, measured."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from nasplatform.deploy.network import Network
from nasplatform.deploy.onnx import session_of
from nasplatform.deploy.timing import timed
from nasplatform.errors import BuildError, MissingExtraError
from nasplatform.training.flops import count_macs, threads
from nasplatform.training.loop import evaluate
from nasplatform.training.task import Task

MANY = 64
"""Images of the batch that is timed beside the single image."""


@dataclass(frozen=True)
class Measurements:
    """One network on one task.

    accuracy:       on the test split, in [0, 1].
    parameters:     numbers on which the output depends; placeholders are not counted.
    macs:           multiply-adds of convolutions and matrix products for one image.
    bytes_on_disk:  of the saved folder.
    latency_ms:     median time of one image on one thread of the CPU, in milliseconds; that of
                    ONNX Runtime where the extra ``deploy`` is installed, else torch's.
    latency_iqr_ms: range between its quartiles.
    latency_64_ms:  median time of a batch of 64 images, likewise.
    """

    accuracy: float
    parameters: int
    macs: int
    bytes_on_disk: int
    latency_ms: float
    latency_iqr_ms: float
    latency_64_ms: float


def measure(
    network: Network, task: Task, folder: Path | None = None, device: str = "cpu"
) -> Measurements:
    """Measure a network.

    folder: where it is saved already; None saves it to a temporary folder to weigh it.
    device: where the accuracy is computed; the latency is always that of the CPU.
    """
    accuracy = evaluate(network.module, task, "test", device)
    network.module.to("cpu")
    shape = task.input_shape
    (median, spread), (many, _) = latencies(network.module, shape, (1, MANY))
    return Measurements(
        accuracy=accuracy,
        parameters=count_parameters(network.module, shape),
        macs=count_macs(network.module, shape),
        bytes_on_disk=_bytes_of(network, folder),
        latency_ms=median,
        latency_iqr_ms=spread,
        latency_64_ms=many,
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
    """Return median and interquartile range of the time for one image, in milliseconds."""
    return latencies(module, input_shape, (1,))[0]


def latencies(
    module: nn.Module, input_shape: tuple[int, int, int], batches: Sequence[int]
) -> list[tuple[float, float]]:
    """Return median and interquartile range of the time for a batch of each size, in milliseconds.

    On one thread of the CPU, by ONNX Runtime; where it is not installed, or ONNX cannot express
    the network, by torch.
    """
    images = [torch.zeros(batch, *input_shape) for batch in batches]
    try:
        session = session_of(module.eval(), images[0][:1])
    except (MissingExtraError, BuildError):
        with threads(1), torch.inference_mode():
            return [timed(partial(module.eval(), batch)) for batch in images]
    arrays = [{"images": batch.numpy()} for batch in images]
    return [timed(partial(session.run, ["logits"], array)) for array in arrays]


def _bytes_of(network: Network, folder: Path | None) -> int:
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            network.save(Path(temporary) / "network")
            return _bytes_of(network, Path(temporary) / "network")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
