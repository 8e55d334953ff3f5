"""How fast a network is beside what one would run instead of it, on the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from nasplatform.errors import BuildError
from nasplatform.runtimes.base import Arrays, Session
from nasplatform.runtimes.choice import open_session
from nasplatform.runtimes.measure import Latency
from nasplatform.runtimes.onnx_graph import onnx_model
from nasplatform.runtimes.onnx_int8 import Int8Session
from nasplatform.runtimes.onnx_runtime import OnnxSession
from nasplatform.runtimes.timing import timed


def compared(
    before: nn.Module, after: nn.Module, images: Arrays, threads: int = 1
) -> list[Latency]:
    """Time one image in ONNX Runtime, in float32 and in 8 bits, then the network after a stage.

    before: in float32; timed as it is and quantised, statically and dynamically.
    after:  timed in the runtime that is the default for it.
    images: (B, c, h, w), from which the ranges of 8-bit activations are taken; one is timed.
    What ONNX Runtime cannot do is left out. Raises MissingExtraError without the extra ``deploy``.
    """
    sessions = [*instead(before, images, threads)]
    chosen = open_session(after, _shape(images), threads=threads)
    sessions.append(chosen.session)
    return [_timed(session, images) for session in sessions]


def instead(module: nn.Module, images: Arrays, threads: int = 1) -> Iterator[Session]:
    """Yield sessions of ONNX Runtime: float32, static int8, dynamic int8, those that it can do."""
    model = onnx_model(module.eval(), torch.zeros(1, *_shape(images)))
    yield OnnxSession(model.SerializeToString(), threads)
    for calibration in (images, None):
        try:
            yield Int8Session(model, calibration, threads)
        except BuildError:
            continue


def _timed(session: Session, images: Arrays) -> Latency:
    timing = timed(partial(session.run, images[:1]))
    return Latency(
        1,
        timing.median_ms,
        timing.iqr_ms,
        timing.repeats,
        session.runtime,
        session.threads,
        session.note,
    )


def _shape(images: Arrays) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width
