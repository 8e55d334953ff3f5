"""Networks in 8 bits by ONNX Runtime's own quantisation: what one would take instead."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasplatform.errors import BuildError
from nasplatform.runtimes.base import Arrays
from nasplatform.runtimes.onnx_graph import INPUT, extra
from nasplatform.runtimes.onnx_runtime import OnnxSession

_ADVICE = ("pre-processing", "to be an initializer", "is out-of-range for weight")


class Int8Session(OnnxSession):
    """A graph whose weights, and activations, are 8-bit integers."""

    def __init__(self, model: Any, images: Arrays | None, threads: int) -> None:
        """Quantise an ``onnx.ModelProto``.

        images: from which the ranges of activations are taken (static); None: they are taken
                anew from each batch (dynamic).
        Raises BuildError where ONNX Runtime cannot.
        """
        self.runtime = f"onnxruntime-int8-{'dynamic' if images is None else 'static'}"
        with tempfile.TemporaryDirectory() as folder:
            whole, path = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
            whole.write_bytes(model.SerializeToString())
            try:
                _quantise(whole, images, path)
            except Exception as error:  # whatever a third party's tool raises
                words = " ".join(str(error).split())[:200]
                raise BuildError(f"ONNX Runtime cannot quantise the network: {words}") from None
            super().__init__(path.read_bytes(), threads)


def _quantise(model: Path, images: Arrays | None, path: Path) -> None:
    extra("onnxruntime")
    from onnxruntime import quantization as q

    logging.getLogger().addFilter(_quiet)
    try:
        if images is None:
            q.quantize_dynamic(model, path, weight_type=q.QuantType.QUInt8)
        else:
            q.quantize_static(model, path, _reader(q, images), per_channel=True)
    finally:
        logging.getLogger().removeFilter(_quiet)


def _quiet(record: logging.LogRecord) -> bool:
    """Drop advice that every network gets, and that a vector has one scale, not one a channel."""
    words = record.getMessage()
    return not any(each in words for each in _ADVICE)


def _reader(q: Any, images: Arrays) -> Any:
    class Reader(q.CalibrationDataReader):  # type: ignore[misc]  # a base that mypy cannot see
        def __init__(self) -> None:
            self._left: Iterator[Arrays] = iter(images[:, None])

        def get_next(self) -> dict[str, Arrays] | None:
            image = next(self._left, None)
            return None if image is None else {INPUT: image}

    return Reader()
