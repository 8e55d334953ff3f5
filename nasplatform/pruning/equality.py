"""What a network without some channels must compute: the same as with their readers silenced."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasplatform.errors import StageError
from nasplatform.pruning.graph import (
    NORMALISATIONS,
    PRODUCTS,
    ChannelGraph,
    Contraction,
    Groups,
    Layer,
)
from nasplatform.training.operations import Operations
from nasplatform.training.seeding import seeded

TOLERANCE = 1e-5
CHECKED_IMAGES = 8


def masked(module: nn.Module, graph: ChannelGraph, removed: Groups) -> nn.Module:
    """Return a copy in which every weight that reads a removed channel is 0.

    Normalisations over channels take their statistics from those that are left.
    """
    copied, removed = copy.deepcopy(module), graph.gone(removed)
    with torch.no_grad():
        for name, layer in graph.layers.items():
            if layer.area:
                _silence(copied.get_submodule(name), layer, np.isin(layer.inputs, removed))
    kept = [one and (one[0], ~np.isin(one[1], removed)) for one in graph.statistics]
    summed = [_summed(one, removed) for one in graph.contractions]
    every = [*(one[1] for one in kept if one), *(keep for keep in summed if keep is not None)]
    if all(keep.all() for keep in every):
        return copied
    return _OfKept(copied, kept, summed)


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
    weight, columns = layer.get_parameter("weight"), torch.from_numpy(gone)
    if described.transposed:
        weight[columns] = 0
        return
    per_group = weight.shape[0] // described.groups
    for group, own in enumerate(columns.reshape(described.groups, -1)):
        weight[group * per_group : (group + 1) * per_group, own] = 0


def _summed(contraction: Contraction | None, removed: Groups) -> NDArray[np.bool_] | None:
    side = None if contraction is None else contraction.sides[-1]
    return None if side is None else ~np.isin(side, removed)


class _OfKept(nn.Module):
    """A network whose normalisations and products over channels see the kept ones only."""

    def __init__(
        self,
        module: nn.Module,
        kept: list[tuple[int, NDArray[np.bool_]] | None],
        summed: list[NDArray[np.bool_] | None],
    ) -> None:
        super().__init__()
        self.inner, self.kept, self.summed = module, kept, summed

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        with sdpa_kernel(SDPBackend.MATH), _Kept(self.kept, self.summed):
            logits: Tensor = self.inner(images)
        return logits


class _Kept(Operations):
    """Computes group and layer normalisations and products, in their order, of what is kept."""

    def __init__(
        self,
        kept: list[tuple[int, NDArray[np.bool_]] | None],
        summed: list[NDArray[np.bool_] | None],
    ) -> None:
        super().__init__()
        self.kept, self.summed = iter(kept), iter(summed)

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation, a normalisation without the channels that go."""
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            keep = next(self.summed)
            if keep is not None:  # zero where a place is gone; all axes but the last are rows
                own = torch.from_numpy(keep).to(args[0])
                args = (args[0] * own, *args[1:])
        kept = next(self.kept) if name in NORMALISATIONS else None
        if kept is None:
            return super().compute(func, args, kwargs)
        axis, keep = kept
        places = torch.from_numpy(np.flatnonzero(keep)).to(args[0].device)
        given, whole = args[0].index_select(axis, places), torch.zeros_like(args[0])
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
