"""Export to ONNX, checked against torch before the file appears."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.atomic_io import replace_file
from nasplatform.deploy.network import Network
from nasplatform.deploy.timing import timed
from nasplatform.errors import BuildError, MissingExtraError
from nasplatform.training.task import Task

TOLERANCE = 1e-4
CHECKED_IMAGES = 8


def export_onnx(network: Network, task: Task, path: Path) -> float:
    """Write the network as ONNX with a free batch size, and run it once with onnxruntime.

    The file says in its metadata how to make its input of raw images: ``mean`` and ``std`` per
    channel; and which task it is for.
    Returns the largest absolute difference of the logits of 8 test images from torch's. Raises
    MissingExtraError without the extra ``deploy``, BuildError where ONNX has no words for a part
    of the network or the difference exceeds 1e-4; the file is not written then.
    """
    images = task.test.inputs[:CHECKED_IMAGES]
    module = network.module.eval()
    with torch.no_grad():
        expected = module(images).numpy()
    model = onnx_model(module, images[:1])
    _extra("onnx").helper.set_model_props(model, _metadata(task))
    found = _session(model.SerializeToString()).run(["logits"], {"images": images.numpy()})[0]
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise BuildError(
            f"{path} is not written: its logits differ from torch's by {difference:.1e}, "
            f"at most {TOLERANCE:.0e} is allowed"
        )
    with replace_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return difference


def onnx_latency(path: Path, batch: int = 1) -> tuple[float, float]:
    """Return median and interquartile range of the time of one batch, in milliseconds.

    onnxruntime on one thread of the CPU, on an exported file; MissingExtraError without it.
    """
    session = _session(path.read_bytes())
    shape = session.get_inputs()[0].shape[1:]
    images = {"images": np.zeros((batch, *shape), np.float32)}
    return timed(lambda: session.run(["logits"], images))


def session_of(module: nn.Module, image: Tensor) -> Any:
    """Return an onnxruntime session, of one thread, of a module in evaluation mode.

    image: (1, c, h, w). Its input is ``images``, its output ``logits``. Raises MissingExtraError
    without the extra ``deploy``, BuildError where ONNX cannot express the network.
    """
    return _session(onnx_model(module, image).SerializeToString())


def onnx_model(module: nn.Module, image: Tensor) -> Any:
    """Return a module as an ``onnx.ModelProto`` with a free batch size; errors as above."""
    onnx = _extra("onnx")
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, but torch.export cannot do it
        try:
            torch.onnx.export(
                module,
                (image,),
                written,  # type: ignore[arg-type]  # a file will do, the types say otherwise
                dynamo=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            )
        except RuntimeError as error:
            words = " ".join(str(error).split())[:200]
            raise BuildError(f"the network has a part that ONNX cannot express: {words}") from None
    model = onnx.load_from_string(written.getvalue())
    _drop_zero_terms(model.graph)
    return model


def _drop_zero_terms(graph: Any) -> None:
    """Take out every ``x + zeros_like(x)``, with which the sums of NAS-Bench-101 cells begin.

    onnxruntime keeps them, for they depend on the size of the batch, and computes all that
    follows outside of its blocked layout.
    """
    made = {name: node for node in graph.node for name in node.output}
    instead: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add":
            a, b = node.input
            term = b if _is_zeros_like(b, a, made) else a if _is_zeros_like(a, b, made) else None
            if term is not None and node.output[0] not in {out.name for out in graph.output}:
                instead[node.output[0]] = a if term == b else b
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in instead:
                name = instead[name]
            node.input[index] = name
    _drop_unused(graph)


def _is_zeros_like(name: str, other: str, made: Mapping[str, Any]) -> bool:
    """Say whether a value is ``ConstantOfShape(Shape(other))`` filled with 0."""
    zeros = made.get(name)
    while zeros is not None and zeros.op_type == "Cast":
        zeros = made.get(zeros.input[0])
    if zeros is None or zeros.op_type != "ConstantOfShape":
        return False
    shape = made.get(zeros.input[0])
    fill = _extra("onnx").numpy_helper.to_array(zeros.attribute[0].t) if zeros.attribute else 0
    return (
        shape is not None
        and shape.op_type == "Shape"
        and shape.input[0] == other
        and not np.any(fill)
    )


def _drop_unused(graph: Any) -> None:
    wanted = {out.name for out in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _session(model: bytes) -> Any:
    onnxruntime = _extra("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def _metadata(task: Task) -> dict[str, str]:
    return {
        "task": task.name,
        "data_sha256": task.digest,
        "mean": json.dumps(task.mean),
        "std": json.dumps(task.std),
    }


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"export to ONNX needs {name}: pip install 'nasplatform[deploy]'"
        ) from None
