"""Checkpoints of a training: one safetensors file, replaced atomically, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nasplatform.atomic_io import replace_file
from nasplatform.errors import TrainingError
from nasplatform.foreign import blaming, require_tensors


def state_digest(module: nn.Module) -> str:
    """Return the sha256 of all parameters and buffers, names, types and shapes included."""
    found = hashlib.sha256()
    for name, tensor in detached_state(module.state_dict()).items():
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def detached_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to contiguous memory of the CPU, each its own, as safetensors wants them."""
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in state.items()}


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and ``facts`` (JSON) as one file that appears whole or not at all."""
    with replace_file(path) as temporary:
        save_file(detached_state(tensors), temporary, metadata={"facts": json.dumps(facts)})


def read(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read what ``write`` wrote; None where there is nothing.

    key: the ``facts["key"]`` that the checkpoint must have been written with.
    Raises TrainingError for a damaged file or the checkpoint of another training.
    """
    if not path.exists():
        return None
    with blaming(path, TrainingError, "is damaged, delete it to train anew"):
        require_tensors(path)
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        known = facts.get("key")
    if known != key:
        raise TrainingError(
            f"{path} is the checkpoint of another training (recipe, seed, data or first weights "
            f"differ), delete it to train anew"
        )
    return tensors, facts
