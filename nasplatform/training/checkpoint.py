"""Checkpoints of a training: one safetensors file, replaced atomically, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nasplatform.atomic_io import replace_file
from nasplatform.errors import TrainingError

MODEL, MOMENTUM = "model.", "momentum."


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


def write(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Write weights, momentum and ``facts`` (JSON) as one file that appears whole or not at all."""
    tensors = {f"{MODEL}{name}": tensor for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            tensors[f"{MOMENTUM}{name}"] = buffer
    with replace_file(path) as temporary:
        save_file(detached_state(tensors), temporary, metadata={"facts": json.dumps(facts)})


def read(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, key: str
) -> dict[str, Any] | None:
    """Load a checkpoint into module and optimizer; None, and nothing loaded, where there is none.

    key: the ``facts["key"]`` that the checkpoint must have been written with.
    Raises TrainingError for a damaged file or the checkpoint of another training.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is damaged, delete it to train anew: {error}") from None
    if facts.get("key") != key:
        raise TrainingError(
            f"{path} is the checkpoint of another training (recipe, seed, data or first weights "
            f"differ), delete it to train anew"
        )
    module.load_state_dict(_part(tensors.items(), MODEL))
    buffers = _part(tensors.items(), MOMENTUM)
    for name, parameter in module.named_parameters():
        if name in buffers:
            buffer = torch.empty_like(parameter).copy_(buffers[name])
            optimizer.state[parameter]["momentum_buffer"] = buffer
    return facts


def _part(items: Iterable[tuple[str, Tensor]], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in items if name.startswith(prefix)}
