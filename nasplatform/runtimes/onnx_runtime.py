"""ONNX Runtime: the network as an ONNX graph with a free batch size."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import nn

from nasplatform.runtimes.base import Arrays, Runtime, Session
from nasplatform.runtimes.onnx_graph import extra, onnx_model

_NEEDED = ("onnx", "onnxruntime")


class OnnxSession(Session):
    """A graph whose first input are images and whose first output are logits."""

    runtime = "onnxruntime"

    def __init__(self, model: bytes | str, threads: int) -> None:
        """Take a serialised ``onnx.ModelProto`` or the path of one.

        Raises MissingExtraError without ONNX Runtime, and its own errors for a broken model.
        """
        onnxruntime = extra("onnxruntime")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # what goes wrong is raised, need not be printed too
        self._inner: Any = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )
        self.threads = threads

    def facts(self) -> tuple[dict[str, str], tuple[int, int, int], int]:
        """Return the metadata, the shape (c, h, w) of an image, and the number K of logits.

        Raises ValueError where the graph does not say them as numbers.
        """
        _, *shape = self._inner.get_inputs()[0].shape
        *_, logits = self._inner.get_outputs()[0].shape
        if len(shape) != 3 or not all(isinstance(size, int) for size in (*shape, logits)):
            raise ValueError(f"it takes {shape} and gives {logits}, expected images and logits")
        return self._inner.get_modelmeta().custom_metadata_map, (*shape,), logits

    def run(self, images: Arrays) -> Arrays:
        """Compute the logits."""
        names = self._inner.get_outputs()[0].name, self._inner.get_inputs()[0].name
        logits: Arrays = self._inner.run([names[0]], {names[1]: images})[0]
        return logits


class OnnxRuntime(Runtime):
    """Exports by tracing and runs on the CPU."""

    name: ClassVar[str] = "onnxruntime"
    preference: ClassVar[int] = 10

    def available(self) -> str | None:
        """Return which package is missing."""
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            return f"needs {' and '.join(missing)}: pip install 'nasplatform[deploy]'"
        return None

    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        """Export a module; raise BuildError where ONNX cannot express it."""
        model = onnx_model(module.eval(), torch.zeros(1, *input_shape))
        return OnnxSession(model.SerializeToString(), threads)
