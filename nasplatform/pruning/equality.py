"""What a network without some channels must compute: the same as with their readers silenced."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasplatform.errors import StageError
from nasplatform.pruning.computed import zeroed
from nasplatform.pruning.graph import ChannelGraph, Groups, Layer, Statistic
from nasplatform.training.flops import unfused_transformers
from nasplatform.training.operations import Operations
from nasplatform.training.seeding import seeded

TOLERANCE = 1e-5
CHECKED_IMAGES = 8
SUMMED_INPUT = {"convolution": 0, "mkldnn_convolution": 0, "addmm": 1, "mm": 0, "bmm": 0}
"""Products, and which of their arguments shall be 0 where a channel is gone."""


def masked(module: nn.Module, graph: ChannelGraph, removed: Groups) -> nn.Module:
    """Return a copy in which every weight that reads a removed channel is 0.

    Statistics over channels, also of weights that read them, are of those that are left.
    """
    copied, removed = copy.deepcopy(module), graph.gone(removed)
    with torch.no_grad():
        for name, layer in graph.layers.items():
            if layer.area:
                _silence(copied.get_submodule(name), layer, np.isin(layer.inputs, removed))
    whole = [entry for entry in graph.statistics if np.isin(entry.groups, removed).any()]
    return _OfKept(copied, whole, removed) if whole else copied


def check_equal(
    module: nn.Module, expected: nn.Module, images: Tensor, tolerance: float = TOLERANCE
) -> float:
    """Return the largest difference of logits, as a share of the largest logit.

    Raises StageError where the networks cannot be run or the difference exceeds the tolerance,
    which means that the network does with its channels what tracing did not see.
    """
    with torch.no_grad():
        with seeded(0):
            logits = expected.eval()(images)
        with seeded(0):
            found = _logits(module.eval(), images)
    if found.shape != logits.shape:
        raise StageError(
            f"the network does not work with fewer channels: of {len(images)} images it makes "
            f"logits {tuple(found.shape)}"
        )
    share = float((found - logits).abs().max()) / max(float(logits.abs().max()), 1.0)
    if not share <= tolerance:
        raise StageError(
            f"removing channels changes the logits by {share:.1e} more than masking them does: "
            f"the network uses its channels in a way that cannot be traced"
        )
    return share


def check_trains(module: nn.Module, images: Tensor) -> None:
    """Raise StageError where a network fails in training mode, with heads of its own perhaps."""
    with torch.no_grad(), seeded(0):
        _logits(copy.deepcopy(module).train(), images)


def _logits(module: nn.Module, images: Tensor) -> Tensor:
    """Compute; raise StageError that names the layer where the network does not work any more."""
    inside: list[str] = []

    def enter(name: str) -> Any:
        return lambda child, given: inside.append(name)

    def leave(child: nn.Module, given: Any, made: Any) -> None:
        inside.pop()

    hooks: list[Any] = []
    for name, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(enter(name)))
        hooks.append(child.register_forward_hook(leave))
    try:
        logits: Tensor = module(images)
    except Exception as error:  # whatever the network of a third party raises
        words = " ".join(str(error).split())[:200]
        place = f"layer {inside[-1]!r}" if inside and inside[-1] else "the network itself"
        raise StageError(
            f"the network does not work with fewer channels: {place} raises {words!r}"
        ) from None
    finally:
        for hook in hooks:
            hook.remove()
    return logits


def _silence(layer: nn.Module, described: Layer, gone: NDArray[np.bool_]) -> None:
    weight, columns = layer.get_parameter(described.weight_name), torch.from_numpy(gone)
    if described.transposed:
        weight[columns] = 0
        return
    per_group = weight.shape[0] // described.groups
    for group, own in enumerate(columns.reshape(described.groups, -1)):
        weight[group * per_group : (group + 1) * per_group, own] = 0


class _OfKept(nn.Module):
    """A network whose statistics and products over channels see the kept ones only."""

    def __init__(self, module: nn.Module, whole: Sequence[Statistic], removed: Groups) -> None:
        super().__init__()
        self.inner, self.whole, self.removed = module, whole, removed

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        kept = _KeptStatistics(self.whole, self.removed)
        with unfused_transformers(), sdpa_kernel(SDPBackend.MATH), kept:
            logits: Tensor = self.inner(images)
        return logits


class _KeptStatistics(Operations):
    """Computes what sees all channels at once of those that are kept."""

    def __init__(self, whole: Sequence[Statistic], removed: Groups) -> None:
        super().__init__()
        self.whole = {
            (entry.operation, entry.call): (entry.axis, ~np.isin(entry.groups, removed))
            for entry in whole
        }
        self.calls: Counter[str] = Counter()

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation, without the channels that go."""
        name = func.overloadpacket.__name__
        place = self.whole.get((name, self.calls[name]))
        self.calls[name] += 1
        if place is None:
            return super().compute(func, args, kwargs)
        axis, keep = place
        if name in SUMMED_INPUT:
            at = SUMMED_INPUT[name]
            args = (*args[:at], zeroed(args[at], axis, keep), *args[at + 1 :])
            return func(*args, **kwargs)
        places = torch.from_numpy(np.flatnonzero(keep)).to(args[0].device)
        if name in ("dot", "vdot"):
            return func(*(vector.index_select(axis, places) for vector in args[:2]))
        given = args[0].index_select(axis, places)
        if name not in ("native_group_norm", "native_layer_norm"):
            return func(given, *args[1:], **kwargs)
        whole = torch.zeros_like(args[0])
        if name == "native_layer_norm":
            _, _, *vectors, epsilon = args
            weight, bias = _cut(vectors, places)
            made = func(given, [len(places)], weight, bias, epsilon)[0]
        else:
            _, *vectors, batch, channels, area, groups, epsilon = args
            weight, bias = _cut(vectors, places)
            groups = len(places) if groups == channels else groups
            made = func(given, weight, bias, batch, len(places), area, groups, epsilon)[0]
        return whole.index_copy(axis, places, made), None, None


def _cut(vectors: list[Tensor | None], places: Tensor) -> list[Tensor | None]:
    return [None if vector is None else vector[places] for vector in vectors]
