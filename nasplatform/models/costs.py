"""How many numbers a network is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasplatform.training.flops import forward_once
from nasplatform.training.operations import Operations


def count_parameters(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count the parameters with which something is computed for an image.

    Read off one forward pass, so that parameters that a library keeps only as placeholders do not
    count, and those that are used without gradients do.
    """
    seen = _Seen()
    forward_once(module, input_shape, seen)
    return sum(
        parameter.numel() for parameter in module.parameters() if _place(parameter) in seen.places
    )


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
