"""One file that holds a network ready to run: no pickle, no torch, no structure needed.

The file is of the form safetensors: the program's tensors, and in the metadata the program, what
images it takes, and the sha256 of all that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load, save

from nasplatform.atomic_io import replace_file
from nasplatform.errors import RunError
from nasplatform.foreign import blaming, require_tensors
from nasplatform.models.inputs import check_images
from nasplatform.runtimes.packed.program import Program
from nasplatform.runtimes.packed.session import PackedSession
from nasplatform.runtimes.packed.steps import Tensors

SUFFIX, FORMAT = ".nasbin", "1"


@dataclass(frozen=True)
class PackedFile:
    """What a file holds.

    input: what the network was made for, as ``Structure.input`` says it; None where not known.
    """

    program: Program
    input: Mapping[str, Any] | None

    def session(self, threads: int = 1) -> PackedSession:
        """Make it ready to run on images (B, c, h, w)."""
        return PackedSession(self.program, threads)


def write_program(program: Program, path: Path, images: Mapping[str, Any] | None = None) -> None:
    """Write a program; the file appears whole or not at all."""
    text = json.dumps({"program": program.describe(), "input": images}, sort_keys=True)
    tensors = {name: np.ascontiguousarray(values) for name, values in program.tensors.items()}
    metadata = {"format": FORMAT, "network": text, "sha256": _digest(text, tensors)}
    with replace_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def read_packed(path: Path) -> PackedFile:
    """Read a file; raise RunError where it is missing, damaged or of another version."""
    with blaming(path, RunError, "is no packed network that can be run"):
        require_tensors(path)
        with safe_open(path, "np") as opened:
            metadata = opened.metadata() or {}
        tensors = load(path.read_bytes())
        if metadata["format"] != FORMAT:
            raise ValueError(f"format {metadata['format']!r}, this version reads {FORMAT}")
        if metadata["sha256"] != _digest(metadata["network"], tensors):
            raise ValueError("its content is not what its digest says")
        found = json.loads(metadata["network"])
        program, images = Program.read(found["program"], tensors), found["input"]
        if images is not None:
            check_images(images, program.image_shape, program.shapes[-1][2])
        return PackedFile(program, images)


def _digest(text: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(text.encode())
    for name, values in sorted(tensors.items()):
        digest.update(f"\0{name}\0{values.dtype}\0{values.shape}\0".encode() + values.tobytes())
    return digest.hexdigest()
