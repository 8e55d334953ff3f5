"""Export to ONNX, checked against torch before the file appears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasplatform.atomic_io import replace_file
from nasplatform.errors import BuildError, InputError, NetworkError
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Arrays
from nasplatform.runtimes.onnx_graph import extra, onnx_model
from nasplatform.runtimes.onnx_runtime import OnnxSession

TOLERANCE = 1e-4
CHECKED_IMAGES = 8
_NUMBER = (
    f"the graph does not work for {CHECKED_IMAGES} images; code that takes their number by len(x) "
    f"or int(...) makes a graph for one image, x.shape[0] makes one for any"
)


def export_onnx(network: Network, path: Path) -> float:
    """Write the network as ONNX with a free batch size, and run it once with onnxruntime.

    The file says in its metadata what ``Structure.input`` says, each value as JSON: which task it
    is for, ``shape``, ``mean`` and ``std`` per channel of raw images, ``class_names``.
    Returns the largest absolute difference of the logits of 8 random images from torch's. Raises
    MissingExtraError without the extra ``deploy``, NetworkError where the network does not know
    its input, BuildError where ONNX has no words for a part of the network or the difference
    exceeds 1e-4; the file is not written then.
    """
    known = network.structure.input
    if known is None:
        raise NetworkError("the network does not say what images it is for: train it on a task")
    rng = torch.Generator().manual_seed(0)
    images = torch.randn((CHECKED_IMAGES, *known["shape"]), generator=rng)
    module = network.module.eval()
    with torch.no_grad():
        expected = module(images).numpy()
    model = onnx_model(module, images[:1])
    facts = {name: json.dumps(value) for name, value in known.items()}
    extra("onnx").helper.set_model_props(model, facts)
    found = _computed(model, images.numpy(), path)
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise BuildError(
            f"{path} is not written: its logits differ from torch's by {difference:.1e}, "
            f"at most {TOLERANCE:.0e} is allowed"
        )
    with replace_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return difference


def _computed(model: Any, images: Arrays, path: Path) -> Arrays:
    """Run a graph once; raise BuildError where it does not work for this many images."""
    try:
        logits = OnnxSession(model.SerializeToString(), threads=1).run(images)
    except InputError:
        raise
    except Exception as error:  # ONNX Runtime has kinds of its own
        words = " ".join(str(error).split())[:200]
        raise BuildError(f"{path} is not written: {_NUMBER} ({words})") from None
    if len(logits) != len(images):
        raise BuildError(f"{path} is not written: {_NUMBER} ({len(logits)} answers)")
    return logits
