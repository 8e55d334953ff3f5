"""One forward pass of a network, written down call by call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasplatform.stages.dataflow.nodes import Edge, Node, edge_of
from nasplatform.training.flops import unfused_transformers

BATCH = 2
"""Images that are sent through: two, so that the axis of the images can be told."""
Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.MultiheadAttention
"""What has weights, makes feature maps and reads them."""


@dataclass(frozen=True)
class Call:
    """One call of a module.

    index: how many calls of the same module came before it.
    given: where each tensor that it took was made; the images themselves are left out.
    taken, made: the first tensor that it took, and what it made.
    """

    module: nn.Module
    index: int
    given: tuple[Edge, ...]
    taken: Tensor
    made: Tensor
    end: Edge


@dataclass(frozen=True)
class Record:
    """The calls of layers and of modules without children, in order, and what came out."""

    images: Tensor
    calls: tuple[Call, ...]
    outputs: tuple[Edge, ...]

    @property
    def layers(self) -> dict[Edge, Call]:
        """Calls of layers, by what they made."""
        return {call.end: call for call in self.calls if isinstance(call.module, Layer)}

    @property
    def nodes(self) -> list[Node]:
        """Where everything that was noted was made."""
        edges = [edge for call in self.calls for edge in (call.end, *call.given)]
        return [edge.node for edge in (*edges, *self.outputs)]


def record(module: nn.Module, input_shape: tuple[int, int, int]) -> Record:
    """Send random images through a module in evaluation mode; it is left as it was."""
    calls: list[Call] = []
    rng = torch.Generator().manual_seed(0)
    images = torch.randn((BATCH, *input_shape), generator=rng).requires_grad_()
    with _evaluating(module), _noting(module, calls), unfused_transformers(), torch.enable_grad():
        made = module(images)
    ends = (edge_of(leaf) for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
    return Record(images, tuple(calls), tuple(end for end in ends if end is not None))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode


@contextmanager
def _noting(module: nn.Module, calls: list[Call]) -> Iterator[None]:
    times: Counter[nn.Module] = Counter()
    entered: defaultdict[nn.Module, list[tuple[Edge, ...]]] = defaultdict(list)

    def enter(child: nn.Module, args: Any, kwargs: Any) -> None:
        # now, for what works in place takes another edge for its own input
        edges = [edge_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        entered[child].append(tuple(edge for edge in edges if edge is not None))

    def leave(child: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
        given, index = entered[child].pop(), times[child]
        times[child] += 1
        first = made[0] if isinstance(made, tuple) and made else made
        taken = next((t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)), None)
        end = edge_of(first) if isinstance(first, Tensor) else None
        if end is not None and taken is not None:
            calls.append(Call(child, index, given, taken, first, end))

    handles = []
    for child in module.modules():
        if isinstance(child, Layer) or not any(child.children()):
            handles.append(child.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(child.register_forward_hook(leave, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
