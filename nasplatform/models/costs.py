"""How many numbers a network is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasplatform.models.binary import binary_layers
from nasplatform.training.flops import count_macs, forward_once
from nasplatform.training.operations import Operations


def count_parameters(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count the parameters with which something is computed for an image.

    Read off one forward pass, so that parameters that a library keeps only as placeholders do not
    count, and those that are used without gradients do. Weights of one bit count as others.
    """
    seen = _Seen()
    forward_once(module, input_shape, seen)
    floats = sum(
        parameter.numel() for parameter in module.parameters() if _place(parameter) in seen.places
    )
    layers = binary_layers(module).values()
    return floats + sum(x.binary_weights for x in layers if _place(x.scale) in seen.places)


@dataclass(frozen=True)
class OperationCounts:
    """Multiply-adds for one image: of floats, and of signs (an XNOR and a count each)."""

    macs: int
    binary_macs: int


def count_operations(module: nn.Module, input_shape: tuple[int, int, int]) -> OperationCounts:
    """Count the multiply-adds of floats and of signs apart; raise as ``count_macs`` does."""
    binary = 0

    def count(layer: Any, _: Any, made: Tensor) -> None:
        nonlocal binary
        binary += made.numel() * layer.binary_weights // layer.weight_shape[0]

    handles = [x.register_forward_hook(count) for x in binary_layers(module).values()]
    try:
        every = count_macs(module, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return OperationCounts(every - binary, binary)


@dataclass(frozen=True)
class StateBytes:
    """Of what a network's weights are made, in bytes.

    binary:         weights of one bit each.
    scales:         what belongs to them: scales, thresholds and biases of binary layers.
    full_precision: everything else.
    """

    binary: int
    scales: int
    full_precision: int


def state_bytes(module: nn.Module) -> StateBytes:
    """Weigh the tensors of a network by what they are; shared ones once."""
    layers = set(binary_layers(module).values())
    binary = sum(layer.bits.nbytes for layer in layers)
    scales = sum(p.nbytes for layer in layers for p in layer.parameters())
    places = {_place(t): t.nbytes for t in module.state_dict().values()}
    return StateBytes(binary, scales, sum(places.values()) - binary - scales)


class _Seen(Operations):
    """Notes the memory of every tensor that an operation takes."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[int] = set()

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.places.update(_place(tensor) for tensor in _tensors((args, kwargs)))
        return super().compute(func, args, kwargs)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
