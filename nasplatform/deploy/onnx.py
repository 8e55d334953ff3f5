"""Export to ONNX, checked against torch before the file appears."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.deploy.measure import timed
from nasplatform.deploy.network import Network
from nasplatform.errors import BuildError, MissingExtraError
from nasplatform.files import replace_file
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
    onnx, onnxruntime = _extra("onnx"), _extra("onnxruntime")
    images = task.test.inputs[:CHECKED_IMAGES]
    module = network.module.eval()
    with replace_file(path) as temporary:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing is deprecated, but torch.export cannot do it
            _trace(module, images[:1], temporary)
            expected = module(images).numpy()
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, _facts(task))
        onnx.save(model, temporary)
        session = onnxruntime.InferenceSession(
            temporary.read_bytes(), providers=["CPUExecutionProvider"]
        )
        found = session.run(["logits"], {"images": images.numpy()})[0]
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:
            raise BuildError(
                f"{path} is not written: its logits differ from torch's by {difference:.1e}, "
                f"at most {TOLERANCE:.0e} is allowed"
            )
    return difference


def onnx_latency(path: Path, batch: int = 1) -> tuple[float, float]:
    """Return median and interquartile range of the time of one batch, in milliseconds.

    onnxruntime on one thread of the CPU, on an exported file; MissingExtraError without it.
    """
    onnxruntime = _extra("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), settings, providers=["CPUExecutionProvider"]
    )
    shape = session.get_inputs()[0].shape[1:]
    images = {"images": np.zeros((batch, *shape), np.float32)}
    return timed(lambda: session.run(["logits"], images))


def _trace(module: nn.Module, image: Tensor, path: Path) -> None:
    try:
        torch.onnx.export(
            module,
            (image,),
            path,
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )
    except RuntimeError as error:
        words = " ".join(str(error).split())[:200]
        raise BuildError(f"the network has a part that ONNX cannot express: {words}") from None


def _facts(task: Task) -> dict[str, str]:
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
