"""A forward pass that says, where it fails, in which layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nasplatform.errors import NetworkError


@dataclass(frozen=True)
class _Visit:
    name: str
    module: nn.Module
    given: tuple[Any, ...]


def run_located(module: nn.Module, images: Tensor) -> Any:
    """Return what a module makes of images; raise NetworkError that names the layer that fails."""
    inside: list[_Visit] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda child, given: inside.append(_Visit(name, child, given))

    def leave(child: nn.Module, given: Any, made: Any) -> None:
        inside.pop()

    handles: list[Any] = []
    for name, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(enter(name)))
        handles.append(child.register_forward_hook(leave))
    try:
        return module(images)
    except Exception as error:  # whatever the network of a third party raises
        words = (inside and _mismatch(inside[-1])) or repr(" ".join(str(error).split())[:200])
        place = f"layer {inside[-1].name!r}" if inside and inside[-1].name else "the network itself"
        kind = "" if words.startswith("takes") else f"raises {type(error).__name__} "
        raise NetworkError(f"{place} {kind}{words}") from None
    finally:
        for handle in handles:
            handle.remove()


def _mismatch(visit: _Visit) -> str | None:
    """Say which width a layer takes where it was given another one."""
    given = visit.given[0] if visit.given else None
    if not isinstance(given, Tensor):
        return None
    layer, unit, axis = visit.module, "channels", 1
    wanted = getattr(layer, "in_channels", None) or getattr(layer, "num_features", None)
    if isinstance(layer, nn.Linear):
        wanted, unit, axis = layer.in_features, "features", -1
    if not isinstance(wanted, int) or given.ndim < 2 or given.shape[axis] == wanted:
        return None
    return f"takes {wanted} {unit}, but was given {given.shape[axis]}"
