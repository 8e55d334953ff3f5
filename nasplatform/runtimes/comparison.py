"""How fast a network is in what one would run instead of bits, on the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from nasplatform.errors import BuildError
from nasplatform.runtimes.base import Arrays, Session
from nasplatform.runtimes.onnx_graph import onnx_model
from nasplatform.runtimes.onnx_int8 import Int8Session
from nasplatform.runtimes.onnx_runtime import OnnxSession
from nasplatform.runtimes.timing import timed


def alternatives(module: nn.Module, images: Arrays, threads: int = 1) -> dict[str, float]:
    """Return median milliseconds of one image in ONNX Runtime, by the name of the session.

    module: in float32; timed as it is and quantised to 8 bits, statically and dynamically.
    images: (B, c, h, w), from which the ranges of 8-bit activations are taken; one is timed.
    What ONNX Runtime cannot quantise is left out. Raises MissingExtraError without the extra
    ``deploy``, BuildError where ONNX has no words for the network.
    """
    sessions = float_sessions(module, images, threads)
    return {each.runtime: timed(partial(each.run, images[:1])).median_ms for each in sessions}


def float_sessions(module: nn.Module, images: Arrays, threads: int = 1) -> Iterator[Session]:
    """Yield sessions of ONNX Runtime: float32, static int8, dynamic int8, those that it can do."""
    model = onnx_model(module.eval(), torch.zeros(1, *images.shape[1:]))
    yield OnnxSession(model.SerializeToString(), threads)
    for calibration in (images, None):
        try:
            yield Int8Session(model, calibration, threads)
        except BuildError:
            continue
