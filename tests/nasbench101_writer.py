"""Writes files in the layout of NAS-Bench-101's official one.

The sizes agree: 423,624 cells with three trainings of 108 epochs make 522,767,376 bytes, which is
the size of ``nasbench_only108.tfrecord``.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from nasplatform.spaces.nasbench101 import Cells, NASBench101, Skeleton

_EVALUATION = struct.Struct("<BdBdBdBdBd")


def varint(number: int) -> bytes:
    """Encode a whole number as protocol buffers do."""
    head = b""
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


def evaluation(epoch: float, seconds: float, train: float, valid: float, test: float) -> bytes:
    """Encode one EvaluationData as field 1 of a ModelMetrics."""
    message = _EVALUATION.pack(9, epoch, 17, seconds, 25, train, 33, valid, 41, test)
    return b"\x0a" + varint(len(message)) + message


def metrics(epochs: int, seconds: float, valid: float, test: float, params: int) -> bytes:
    """Encode a ModelMetrics: the start, the half and the end of a training."""
    return (
        evaluation(0.0, 0.0, 0.1, 0.1, 0.1)
        + evaluation(epochs / 2, seconds / 2, 0.5, 0.4, 0.4)
        + evaluation(float(epochs), seconds, 0.99, valid, test)
        + (b"\x10" + varint(params) + b"\x19" + struct.pack("<d", 2 * seconds))
    )


def payload(digest: str, epochs: int, matrix: object, ops: Sequence[str], message: bytes) -> bytes:
    """Encode one record."""
    wiring = "".join(map(str, np.asarray(matrix).ravel().tolist()))
    text = base64.encodebytes(message).decode()
    return json.dumps([digest, epochs, wiring, ",".join(ops), text]).encode()


def official_payloads(
    cells: Cells, epochs: Sequence[int] = (108,), runs: int = 3, seed: int = 0
) -> Iterator[bytes]:
    """Yield the records of some cells with random accuracies; ``measured`` draws the same ones."""
    values = measured(cells, epochs, runs, seed)
    params = NASBench101(Skeleton()).graphs(cells).total_params
    for row, cell in enumerate(cells):
        for f, epoch in enumerate(epochs):
            for run in range(runs):
                valid, test, seconds = values[row, f, run].tolist()
                message = metrics(epoch, seconds, valid, test, int(params[row]))
                yield payload(cell.hash, epoch, cell.matrix, cell.ops, message)


def measured(cells: Cells, epochs: Sequence[int], runs: int, seed: int) -> np.ndarray:
    """Return (B, F, S, 3): validation accuracy, test accuracy, seconds."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(1000, 9500, (len(cells), len(epochs), runs, 3)) / 10_000
    drawn[..., 2] *= 3000
    return drawn
