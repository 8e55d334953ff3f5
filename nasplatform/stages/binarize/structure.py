"""What changes around the layers that are binarised, and where their thresholds begin."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasplatform.models.edits import Edit
from nasplatform.models.signed import layer_within, rectifying_calls
from nasplatform.stages.binarize.roles import Roles

ONE_SIDED = 0.9
"""Share of a layer's inputs with one sign from which a plain sign says next to nothing."""


def signing_edit(
    module: nn.Module, parts: Roles, input_shape: tuple[int, int, int], shortcuts: bool
) -> Edit:
    """Return the edit ``signed-activations`` that makes a network ready for binary layers."""
    calls: list[str] = []
    if parts.functions:
        calls = rectifying_calls(module, parts.chosen, tuple(parts.left), input_shape)
    shapes = _shapes(module, parts.chosen, input_shape)
    convolutions: dict[str, Any] = {}
    for name, (given, made) in shapes.items():
        layer = module.get_submodule(name)
        if isinstance(layer, nn.Conv2d):
            around = shortcuts and _fits(layer, given, made)
            stride = {"stride": list(layer.stride)} if around else {}
            convolutions[name] = {"channels": layer.out_channels, **stride}
    payload = {
        "rectifiers": list(parts.rectifiers),
        "functions": calls,
        "convolutions": convolutions,
    }
    return Edit("signed-activations", 1, payload)


def names_after(edit: Edit, chosen: Sequence[str]) -> list[str]:
    """Return the names that the chosen layers have after the edit."""
    entries = edit.payload["convolutions"]
    return [layer_within(name, entries[name]) if name in entries else name for name in chosen]


def first_shifts(
    module: nn.Module, names: Sequence[str], images: Tensor, everywhere: bool
) -> dict[str, Tensor | None]:
    """Return for each layer minus the mean of each input channel (in,), None for a plain sign.

    The means are those of some training images, by batch statistics. A plain sign is enough where
    inputs have both signs, unless thresholds are wanted ``everywhere``.
    """
    found: dict[str, Tensor | None] = {}

    def note(name: str, layer: nn.Module, given: Tensor, made: Tensor) -> None:
        axes = [0, 2, 3] if isinstance(layer, nn.Conv2d) else list(range(given.dim() - 1))
        positive = float((given >= 0).float().mean())
        needed = everywhere or not 1 - ONE_SIDED <= positive <= ONE_SIDED
        found[name] = -given.mean(axes) if needed else None

    _watched(copy.deepcopy(module).train(), names, images, note)
    return found


def _shapes(
    module: nn.Module, names: Sequence[str], input_shape: tuple[int, int, int]
) -> dict[str, tuple[torch.Size, torch.Size]]:
    found: dict[str, tuple[torch.Size, torch.Size]] = {}

    def note(name: str, layer: nn.Module, given: Tensor, made: Tensor) -> None:
        found[name] = given.shape, made.shape

    _watched(copy.deepcopy(module).eval(), names, torch.zeros(2, *input_shape), note)
    return {name: found[name] for name in names}


def _fits(layer: nn.Conv2d, given: torch.Size, made: torch.Size) -> bool:
    """Return whether the pooled input of a convolution has the shape of its output."""
    pairs = zip(given[2:], layer.stride, made[2:], strict=True)
    same = all(-(-side // stride) == after for side, stride, after in pairs)
    return same and layer.out_channels >= layer.in_channels


def _watched(
    module: nn.Module,
    names: Sequence[str],
    images: Tensor,
    note: Callable[[str, nn.Module, Tensor, Tensor], None],
) -> None:
    """Run images through a module and hear of the input and output of each named layer."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, given, made: note(name, layer, given[0], made)

    for name in names:
        module.get_submodule(name).register_forward_hook(hook(name))
    with torch.no_grad():
        module(images)
