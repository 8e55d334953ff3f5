"""Export to ONNX, checked against torch before the file appears."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from nasplatform.atomic_io import replace_file
from nasplatform.errors import BuildError
from nasplatform.models.network import Network
from nasplatform.runtimes.onnx_graph import extra, onnx_model
from nasplatform.runtimes.onnx_runtime import OnnxSession
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
    extra("onnx").helper.set_model_props(model, _metadata(task))
    found = OnnxSession(model.SerializeToString(), threads=1).run(images.numpy())
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise BuildError(
            f"{path} is not written: its logits differ from torch's by {difference:.1e}, "
            f"at most {TOLERANCE:.0e} is allowed"
        )
    with replace_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return difference


def _metadata(task: Task) -> dict[str, str]:
    return {
        "task": task.name,
        "data_sha256": task.digest,
        "mean": json.dumps(task.mean),
        "std": json.dumps(task.std),
    }
