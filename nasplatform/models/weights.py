"""Weights of a user's own file, put into a module."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nasplatform import faults
from nasplatform.errors import NetworkError
from nasplatform.foreign import path_of, require_tensors

_INSIDE = ("state_dict", "model_state_dict", "model")
"""Entries of a checkpoint in which the weights may stand."""


def load_weights(module: nn.Module, file: Path | str) -> None:
    """Fill a module with the weights of a file.

    file: ``.safetensors``, or what ``torch.save`` wrote of a ``state_dict``, or of a checkpoint
          with one under ``state_dict``, ``model_state_dict`` or ``model``. Nothing but tensors is
          unpickled. A prefix ``module.`` of every name, which ``DataParallel`` leaves, is dropped.
    Raises NetworkError where the file cannot be read or its weights are not those of the module.
    """
    path = path_of(file, NetworkError)
    weights = _plain_names(_read(path))
    wanted = module.state_dict()
    _complain(path, "lacks", sorted(set(wanted) - set(weights)))
    _complain(path, "has what the network has not:", sorted(set(weights) - set(wanted)))
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise NetworkError(
                f"{path}: {name!r} has shape {tuple(weights[name].shape)}, "
                f"the network's has {tuple(tensor.shape)}"
            )
    module.load_state_dict(weights)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            require_tensors(path)
            return load_file(path)
        # tensors alone: whatever else the file holds is refused, and nothing of it is run
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise NetworkError(f"{path}: there is no such file") from None
    except pickle.UnpicklingError:
        raise NetworkError(
            f"{path} holds more than tensors: save 'module.state_dict()' instead"
        ) from None
    except (OSError, RuntimeError, SafetensorError, EOFError, ValueError) as error:
        words = faults.short(error)
        raise NetworkError(f"{path} holds no weights that can be read: {words}") from None
    inner = next((found[key] for key in _INSIDE if _is_weights(_entry(found, key))), found)
    if not _is_weights(inner):
        raise NetworkError(f"{path} holds no state_dict, expected names with tensors")
    return dict(inner)


def _entry(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else None


def _is_weights(found: Any) -> bool:
    return (
        isinstance(found, Mapping)
        and len(found) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    )


def _plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parallel = all(name.startswith("module.") for name in weights)
    return {name.removeprefix("module.") if parallel else name: w for name, w in weights.items()}


def _complain(path: Path, words: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise NetworkError(f"{path} {words} {names[0]!r}{more}")
