"""Nodes of autograd's graph: their shapes, their kinds, and what they were made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

Node = Any  # torch.autograd.graph.Node, whose saved attributes are not typed

WEIGHTED = ("Convolution", "Addmm", "Mm", "Addmv", "Mv", "Linear", "MkldnnConvolution")
"""How the names of nodes begin that multiply by a matrix of weights."""
PRODUCTS = ("Bmm", "Baddbmm", "ScaledDotProduct")
"""How the names of nodes begin that multiply activations with activations, as attention does."""
SQUASHING = ("SigmoidBackward", "HardsigmoidBackward", "SoftmaxBackward")
_REDUCING = ("Mean", "Sum", "Amax", "MaxBackward", "LinalgVectorNorm", "AdaptiveAvg", "AdaptiveMax")
_WINDOWED = ("AvgPool2D", "MaxPool2D")


class Edge(NamedTuple):
    """One output of a node: the tensor that it made."""

    node: Node
    output: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(int(size) for size in self.node._input_metadata[self.output].shape)


def edge_of(tensor: Tensor) -> Edge | None:
    """Return where a tensor was made; None where nothing was recorded of it."""
    return None if tensor.grad_fn is None else Edge(tensor.grad_fn, tensor.output_nr)


def inputs_of(node: Node) -> list[Edge]:
    """Return what a node was made from, constants left out."""
    return [Edge(before, output) for before, output in node.next_functions if before is not None]


def is_a(node: Node, kinds: tuple[str, ...]) -> bool:
    """Say whether the name of a node begins with one of these."""
    return str(node.name()).startswith(kinds)


def kind_of(node: Node) -> str:
    """Return the name of a node without the number at its end."""
    return str(node.name()).rstrip("0123456789")


def bounds_of(node: Node) -> tuple[float | None, float | None]:
    """Return between what a node clips, None where it does not."""
    names = ("min_val", "max_val") if is_a(node, ("Hardtanh",)) else ("min", "max")
    low, high = (getattr(node, f"_saved_{name}", None) for name in names)
    return low, high


def axis(saved: int, dims: int) -> int:
    """Return a saved axis as 0..dims-1; autograd keeps negative ones without their sign."""
    return (saved - 2**64 if saved >= 2**63 else saved) % dims


def pooled_nodes(ends: Iterable[Node], images: Tensor) -> dict[Node, bool | None]:
    """Say of every node behind ``ends`` whether what it makes was pooled over all places.

    None stands for what does not come from the images: parameters. Pooled and not pooled gives
    not pooled: a gate times a map is a map.
    """
    found: dict[Node, bool | None] = {}
    for node in _inputs_first(ends):
        if not node.next_functions:
            found[node] = False if getattr(node, "variable", None) is images else None
            continue
        given = [found[edge.node] for edge in inputs_of(node)]
        known = [pooled for pooled in given if pooled is not None]
        found[node] = (all(known) or _pools(node)) if known else None
    return found


def _pools(node: Node) -> bool:
    """Say whether a node sums up all places of a map, or lets attention pool them.

    A window of two by two that covers what is left of the map halves it once more, as those before
    it did; a larger one that does is the pooling of a head.
    """
    shape = Edge(node, 0).shape
    if len(shape) > 2 and math.prod(shape[2:]) > 1 and math.prod(shape[1:-1]) > 1:
        return False
    if is_a(node, _WINDOWED):
        window, before = node._saved_kernel_size, inputs_of(node)[0].shape[2:]
        covers = all(k >= size for k, size in zip(window, before, strict=False))
        return covers and max(window) > 2 and not any(node._saved_padding)
    return is_a(node, (*_REDUCING, *PRODUCTS))


def _inputs_first(ends: Iterable[Node]) -> Iterator[Node]:
    """Yield every node behind ``ends`` after all that it was made from."""
    stack, done = [(node, False) for node in ends], set[Node]()
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done.add(node)
            yield node
        else:
            stack.append((node, True))
            stack.extend((edge.node, False) for edge in inputs_of(node))
