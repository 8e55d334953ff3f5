"""How many numbers a network is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasplatform.training.flops import forward_once


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


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the memory of every tensor that an operation takes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.places.update(_place(tensor) for tensor in _tensors((args, kwargs)))
        return func(*args, **(kwargs or {}))


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
