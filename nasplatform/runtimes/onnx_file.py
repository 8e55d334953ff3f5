"""An exported ONNX file, ready to run, with what its metadata says of the images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasplatform.errors import RunError
from nasplatform.foreign import blaming, read_bytes
from nasplatform.models.inputs import Images, check_images
from nasplatform.runtimes.onnx_runtime import OnnxSession

SUFFIX = ".onnx"
_LARGEST = (2 << 30) - 1  # bytes, what a message of protobuf can have


@dataclass(frozen=True)
class OnnxFile:
    """A session, and what the network was made for, as ``Structure.input`` says it."""

    session: OnnxSession
    input: Mapping[str, Any]


def read_onnx(path: Path, threads: int = 1) -> OnnxFile:
    """Read a file that ``export_onnx`` wrote.

    Raises RunError where it is missing or damaged, or does not say what images it takes,
    MissingExtraError without ONNX Runtime.
    """
    with blaming(path, RunError, "is no ONNX network that can be run"):
        session = OnnxSession(read_bytes(path, _LARGEST), threads)
        facts, shape, logits = session.facts()
        known = {name: json.loads(facts[name]) for name in Images.model_fields if name in facts}
        if not known:
            raise RunError(
                f"{path} does not say which images and classes it is for: 'nasplatform export' "
                f"writes that into the file"
            )
        return OnnxFile(session, check_images(known, shape, logits))
