"""How much arithmetic a network is, and how many threads that is worth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nasplatform.errors import NetworkError
from nasplatform.training.operations import Operations

_SHARED_FROM = 2e8
"""Multiply-adds of a forward pass from which a second thread pays; below, handing the work round
takes longer than the work (8 x 8 digits: four times slower with two threads on busy cores)."""

_PRODUCTS = {
    torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1],
    torch.ops.aten.addmv: lambda bias, matrix, vector, **_: 2 * matrix[0] * matrix[1],
    torch.ops.aten.addbmm: lambda bias, one, other, **_: 2 * math.prod(one) * other[2],
    torch.ops.aten.conv_tbc: lambda maps, weight, *_, out_shape, **__: (
        2 * math.prod(out_shape) * math.prod(weight[:2])
    ),
    torch.ops.aten.dot: lambda one, other, **_: 2 * one[0],
    torch.ops.aten.vdot: lambda one, other, **_: 2 * one[0],
}
"""Products that torch's own counter leaves out: shapes -> floating-point operations."""
_BATCHED = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Products of batches of matrices, of which neither is a weight of a layer."""
_UNCOUNTED = (
    *("_trilinear", "_cdist", "_pdist", "_fft", "_linalg", "linalg", "_sparse", "sparse"),
    *("mkldnn", "_native_multi_head", "_transformer", "_scaled_dot_product", "_flash_attention"),
    *("_efficient_attention", "_thnn_fused", "_cudnn_rnn", "cholesky", "lu_", "triangular_solve"),
    *("addr", "ormqr", "geqrf", "_int_mm", "_weight_int", "_mixed_dtypes"),
)
"""How the names of torch's operations begin that multiply and whose products nobody counts."""


def count_macs(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count the multiply-adds of convolutions and matrix products for one image.

    Attention and recurrent layers count as the products that they are made of. The module is left
    in evaluation mode; on torch's device ``meta`` nothing is computed. Raises NetworkError for an
    operation whose products cannot be counted.
    """
    return _count(module, input_shape, frozen=True)[0]


def count_products(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return what ``count_macs`` does, and how many of these are products of batches of matrices.

    The latter are what attention does to queries, keys and values: neither side is a weight.
    """
    # With gradients in view torch multiplies by weights as by one matrix, never as by a batch.
    return _count(module, input_shape, frozen=False)


def _count(module: nn.Module, input_shape: tuple[int, int, int], frozen: bool) -> tuple[int, int]:
    counter = FlopCounterMode(display=False, custom_mapping=_PRODUCTS)
    forward_once(module, input_shape, counter, _Refusing(counter), frozen=frozen)
    found = counter.get_flop_counts().get("Global", {})
    batched = sum(flops for operation, flops in found.items() if operation in _BATCHED)
    return int(counter.get_total_flops()) // 2, int(batched) // 2


def forward_once(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    *watching: AbstractContextManager[Any],
    frozen: bool = True,
) -> None:
    """Run one random image through a module, in evaluation mode, within the given contexts.

    Fused layers are taken apart: those that torch has for attention, whole encoder layers and
    recurrent networks show nothing of the products of which they are made.
    """
    module.eval()
    device = next((weight.device for weight in module.parameters()), None)
    image = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        if frozen:
            contexts.enter_context(_frozen(module))
        contexts.enter_context(_taken_apart())
        for context in watching:
            contexts.enter_context(context)
        module(image)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Keep parameters from asking for gradients, which torch's counter stumbles over in views."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def unfused_transformers() -> Iterator[None]:
    """Compute attention and encoder layers of ``torch.nn`` step by step within the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _taken_apart() -> Iterator[None]:
    with warnings.catch_warnings(), unfused_transformers(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")  # the flags of oneDNN speak of GPUs that are not there
        with torch.backends.mkldnn.flags(enabled=False):
            yield


class _Refusing(Operations):
    """Raises NetworkError for operations that multiply and that a counter does not know."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.known = counter.flop_registry

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func._overloadpacket not in self.known:
            space, _, name = func._schema.name.partition("::")
            foreign = space not in ("aten", "prim", "prims")
            if foreign or (name.startswith(_UNCOUNTED) and name != "linalg_vector_norm"):
                raise NetworkError(f"the multiply-adds of operation {name!r} cannot be counted")
        return super().compute(func, args, kwargs)


def worthwhile_threads(
    module: nn.Module, input_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Return with how many threads a batch is best computed; the module stands on the CPU."""
    try:
        small = count_macs(module, input_shape) * batch_size < _SHARED_FROM
    except NetworkError:  # what cannot be counted may be much
        small = False
    return 1 if small else torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with this many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
