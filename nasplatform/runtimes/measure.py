"""What a network costs and what it is worth, measured in the runtime that computes it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplatform.errors import NetworkError
from nasplatform.models.costs import count_operations, count_parameters, state_bytes
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Session
from nasplatform.runtimes.choice import Chosen, noise, open_session
from nasplatform.runtimes.timing import timed
from nasplatform.training.flops import worthwhile_threads
from nasplatform.training.task import Task

MANY = 64
"""Images of the batch that is timed beside the single image."""


@dataclass(frozen=True)
class Latency:
    """The time of one batch.

    batch:     images.
    median_ms: and iqr_ms, the range between the quartiles, in milliseconds.
    repeats:   how many runs they are of.
    runtime:   what computed, with ``threads`` threads of the CPU.
    note:      why that runtime, where another one was wanted; else empty.
    """

    batch: int
    median_ms: float
    iqr_ms: float
    repeats: int
    runtime: str
    threads: int
    note: str = ""


@dataclass(frozen=True)
class Measurements:
    """One network on one task.

    accuracy:           on the test split, in [0, 1], by the runtime that is timed; NaN without.
    params:             numbers with which something is computed; placeholders are not counted.
    macs:               multiply-adds of convolutions and matrix products for one image, of floats.
    binary_macs:        likewise of signs, which count bits.
    bytes_on_disk:      of the saved folder.
    bytes_binary:       of its weights of one bit each.
    bytes_scales:       of the scales, thresholds and biases of those.
    bytes_full_precision: of all other parameters and buffers.
    latency_ms:         median time of one image, in milliseconds.
    latency_iqr_ms:     range between its quartiles.
    latency_repeats:    how many runs it is the median of.
    latency_64_ms:      median time of a batch of 64 images.
    latency_64_repeats: likewise.
    latency_threads:    threads of the CPU with which was timed.
    runtime:            what computed: accuracy and latencies are of one engine.
    runtime_note:       why that runtime, where another one was wanted; else empty.
    """

    accuracy: float
    params: int
    macs: int
    binary_macs: int
    bytes_on_disk: int
    bytes_binary: int
    bytes_scales: int
    bytes_full_precision: int
    latency_ms: float
    latency_iqr_ms: float
    latency_repeats: int
    latency_64_ms: float
    latency_64_repeats: int
    latency_threads: int
    runtime: str
    runtime_note: str


def measure(
    network: Network, task: Task | None, folder: Path | None = None, runtime: str | None = None
) -> Measurements:
    """Measure a network on the CPU.

    task:    None for a network that knows what images it takes; its accuracy is NaN then.
    folder:  where it is saved already; None saves it to a temporary folder to weigh it.
    runtime: registered name; None takes the best that is available. One that cannot compute the
             network gives way to torch, which ``runtime_note`` says.
    """
    module, shape = network.module.to("cpu"), _shape(network, task)
    sizes = _sizes(MANY if task is None else len(task.test))
    chosen = open_session(module, shape, runtime, sizes)
    one, many = timed_batches(chosen, shape, (1, MANY))
    threads = worthwhile_threads(module, shape, MANY)
    judge = chosen if threads == 1 else open_session(module, shape, runtime, sizes, threads)
    operations, parts = count_operations(module, shape), state_bytes(module)
    return Measurements(
        accuracy=math.nan if task is None else accuracy(judge.session, task),
        params=count_parameters(module, shape),
        macs=operations.macs,
        binary_macs=operations.binary_macs,
        bytes_on_disk=_bytes_of(network, folder),
        bytes_binary=parts.binary,
        bytes_scales=parts.scales,
        bytes_full_precision=parts.full_precision,
        **latency_fields(one, many),
    )


def latency_fields(one: Latency, many: Latency) -> dict[str, Any]:
    """Return the fields of ``Measurements`` that come of timing one image, and ``MANY``."""
    return {
        "latency_ms": one.median_ms,
        "latency_iqr_ms": one.iqr_ms,
        "latency_repeats": one.repeats,
        "latency_64_ms": many.median_ms,
        "latency_64_repeats": many.repeats,
        "latency_threads": one.threads,
        "runtime": one.runtime,
        "runtime_note": one.note,
    }


def accuracy(session: Session, task: Task) -> float:
    """Return the task's metric of a session on the test split, computed in batches of 64."""
    images, labels = task.test.inputs, task.test.labels
    starts = range(0, len(images), MANY)
    parts = [session.run(images[start : start + MANY].numpy()) for start in starts]
    return task.metric(torch.from_numpy(np.concatenate(parts)), labels)


def latency(
    module: nn.Module, input_shape: tuple[int, int, int], runtime: str | None = None
) -> Latency:
    """Return the time of one image on one thread of the CPU; see ``latencies``."""
    return latencies(module, input_shape, (1,), runtime)[0]


def latencies(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    batches: Sequence[int],
    runtime: str | None = None,
) -> list[Latency]:
    """Return the time of a batch of each size, on one thread of the CPU.

    runtime: as for ``measure``; it is timed only where it answers for batches of all these sizes.
    """
    chosen = open_session(module, input_shape, runtime, batches)
    return timed_batches(chosen, input_shape, batches)


def timed_batches(
    chosen: Chosen, input_shape: tuple[int, int, int], batches: Sequence[int]
) -> list[Latency]:
    """Return the time of a batch of each size in a session."""
    session, found = chosen.session, []
    for batch in batches:
        timing = timed(partial(session.run, noise(input_shape, batch)))
        found.append(
            Latency(
                batch,
                timing.median_ms,
                timing.iqr_ms,
                timing.repeats,
                session.runtime,
                session.threads,
                chosen.note,
            )
        )
    return found


def _shape(network: Network, task: Task | None) -> tuple[int, int, int]:
    if task is not None:
        return task.input_shape
    known = network.structure.input
    if known is None:
        raise NetworkError("the network does not say what images it takes: give it a task")
    channels, height, width = known["shape"]
    return channels, height, width


def _sizes(images: int) -> list[int]:
    """Return the sizes of batches that are timed, or in which the test split is computed."""
    return sorted({1, MANY, images % MANY or MANY})


def _bytes_of(network: Network, folder: Path | None) -> int:
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            network.save(Path(temporary) / "network")
            return _bytes_of(network, Path(temporary) / "network")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
