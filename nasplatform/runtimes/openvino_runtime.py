"""OpenVINO: the network's ONNX graph on Intel's kernels, binary convolutions on its bits."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasplatform.errors import BuildError
from nasplatform.models.binary import binary_layers
from nasplatform.runtimes.base import Arrays, Runtime, Session, checked_images
from nasplatform.runtimes.onnx_graph import onnx_model

Bits = NDArray[np.uint8]
_NEEDED = ("onnx", "openvino")
BY = 8
"""Channels come by as many where bits are counted: OpenVINO 2026.4 is wrong for others."""
_KEPT = 4
"""Sizes of batches for which a graph of bits stays compiled."""


class OpenVinoSession(Session):
    """A graph whose first input are images and whose first output are logits.

    A graph with binary convolutions is compiled for each size of batch when it first comes, for
    OpenVINO has those for fixed shapes only.
    """

    runtime = "openvino"

    def __init__(
        self, model: bytes, input_shape: tuple[int, int, int], threads: int, binary: bool
    ) -> None:
        """Take a serialised ``onnx.ModelProto``; raise BuildError where OpenVINO cannot."""
        self._model, self._shape, self.threads = model, input_shape, threads
        self._binary, self._lock = binary, threading.Lock()
        self._ready: dict[int, tuple[Any, list[Bits]]] = {}  # the bits are a graph's memory
        self._of(1)

    def run(self, images: Arrays) -> Arrays:
        """Compute the logits; raise NetworkError for what are no images of the network."""
        given = checked_images(images, self._shape)
        with self._lock:
            logits: Arrays = self._of(len(given)).infer({0: given})[0].copy()
        return logits

    def _of(self, batch: int) -> Any:
        size = batch if self._binary else 0
        if size not in self._ready:
            if len(self._ready) == _KEPT:
                del self._ready[next(iter(self._ready))]
            self._ready[size] = self._compiled(size)
        return self._ready[size][0]

    def _compiled(self, size: int) -> tuple[Any, list[Bits]]:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # processors with bfloat16 would take that
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = openvino.Core()
            graph, bits = core.read_model(self._model), list[Bits]()
            if size:
                graph.reshape([size, *self._shape])
                bits = with_binary_convolutions(graph)
            return core.compile_model(graph, "CPU", settings).create_infer_request(), bits
        except Exception as error:  # whatever a third party's tool raises
            words = " ".join(str(error).split())[:200]
            raise BuildError(f"OpenVINO cannot compute the network: {words}") from None


class OpenVino(Runtime):
    """Exports by tracing to ONNX and runs that on the CPU."""

    name: ClassVar[str] = "openvino"
    preference: ClassVar[int] = 5

    def available(self) -> str | None:
        """Return which package is missing."""
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            return f"needs {' and '.join(missing)}: pip install 'nasplatform[openvino]'"
        return None

    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        """Export a module; raise BuildError where ONNX or OpenVINO cannot express it."""
        model = onnx_model(module.eval(), torch.zeros(1, *input_shape)).SerializeToString()
        return OpenVinoSession(model, input_shape, threads, bool(binary_layers(module)))


def with_binary_convolutions(graph: Any) -> list[Bits]:
    """Let convolutions of signs in an ``openvino.Model`` count bits; return the bits.

    The bits must outlive the graph. What reads another number of channels than a multiple of 8,
    grouped convolutions and products of matrices stay as they are, in floats.
    """
    import openvino
    from openvino import opset1

    def constant(value: float) -> Any:
        return openvino.op.Constant(np.full((1, 1, 1, 1), value, np.float32))

    kept = list[Bits]()
    for node in graph.get_ordered_ops():
        signs = _signs(node)
        if signs is None:
            continue
        kept.append(np.packbits(signs.ravel() > 0, bitorder="little"))
        bits = openvino.op.Constant(openvino.Tensor(kept[-1], list(signs.shape), openvino.Type.u1))
        low, high = constant(0), constant(0)
        ones = opset1.fake_quantize(node.input_value(0), low, high, constant(0), constant(1), 2)
        how = node.get_attributes()
        geometry = (how[key] for key in ("strides", "pads_begin", "pads_end", "dilations"))
        made = opset1.binary_convolution(ones, bits, *geometry, "xnor-popcount", 0.0)
        node.output(0).replace(made.output(0))
    return kept


def _signs(node: Any) -> Arrays | None:
    """Return the weights of a convolution of signs by signs, None for any other node."""
    if node.get_type_name() != "Convolution":
        return None
    given, weight = (node.input_value(i).get_node() for i in (0, 1))
    if given.get_type_name() != "Select" or weight.get_type_name() != "Constant":
        return None
    sides = [given.input_value(i).get_node() for i in (1, 2)]
    if any(side.get_type_name() != "Constant" for side in sides):
        return None
    if [np.unique(side.get_data()).tolist() for side in sides] != [[1.0], [-1.0]]:
        return None
    values: Arrays = weight.get_data()
    fits = values.ndim == 4 and values.shape[1] % BY == 0
    return values if fits and bool((np.abs(values) == 1).all()) else None
