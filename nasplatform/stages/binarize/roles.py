"""Which layers of a network are binarised, by the part that they play in it.

One forward pass is recorded, and autograd's graph walked backwards from every layer with weights
to those that it reads. So roles do not depend on names: the first layers read the image, the last
ones make the logits, a shortcut is a 1 x 1 convolution around wider ones, a gate multiplies maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.training.flops import unfused_transformers

Node = Any  # torch.autograd.graph.Node, whose saved attributes are not typed

IMAGE = "the image"
_PLAIN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.Embedding)
_GATES = ("SigmoidBackward", "HardsigmoidBackward")
_RECTIFIERS = ("ReluBackward", "HardtanhBackward", "ClampMinBackward", "ClampBackward")
RECTIFYING = (nn.ReLU, nn.ReLU6)
"""Activations after which there is no sign left to take."""


@dataclass(frozen=True)
class Roles:
    """What becomes of each layer with weights.

    chosen:     names of the layers to binarise, in the order in which they are computed.
    left:       name -> why it stays in full precision.
    rectifiers: names of the modules whose rectified maps chosen layers read.
    functions:  whether chosen layers read maps that a function rectified, not a module.
    """

    chosen: tuple[str, ...]
    left: Mapping[str, str]
    rectifiers: tuple[str, ...]
    functions: bool


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    given: Node
    made: Node


@dataclass
class _Reach:
    """What is met on the way back from a node.

    sources: layers that are read, or the image; True where each way to it goes through a gate.
    passed:  the nodes in between, those of gates aside.
    """

    sources: dict[str, bool] = field(default_factory=dict)
    passed: set[Node] = field(default_factory=set)


def roles(module: nn.Module, input_shape: tuple[int, int, int]) -> Roles:
    """Find the part that each layer plays; raise StageError where the network cannot be run."""
    return _Flow(module, input_shape).roles()


class _Flow:
    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self.network = module
        self.names = {child: name for name, child in module.named_modules()}
        self.calls: list[_Call] = []
        self.rectified: dict[Node, str] = {}
        leaf = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0))
        images = leaf.requires_grad_().clone()
        self.sources: dict[Node, str] = {images.grad_fn: IMAGE}
        logits = self._run(images)
        self.sources |= {call.made: call.name for call in self.calls}
        self.reads = [(call, self._reach([call.given])) for call in self.calls]
        self.logits = self._reach([logits.grad_fn])

    def _run(self, images: Tensor) -> Tensor:
        weighted = [m for m in self.network.modules() if isinstance(m, _WEIGHTED)]
        handles = [m.register_forward_hook(self._note) for m in weighted]
        rectifying = [m for m in self.network.modules() if isinstance(m, RECTIFYING)]
        handles += [m.register_forward_hook(self._note_rectifier) for m in rectifying]
        before = self.network.training
        try:
            with torch.enable_grad(), unfused_transformers():
                made = self.network.eval()(images)
        except Exception as error:  # whatever the network of a third party raises
            words = " ".join(str(error).split())[:200]
            raise StageError(f"the network cannot be run: {words!r}") from None
        finally:
            self.network.train(before)
            for handle in handles:
                handle.remove()
        if not isinstance(made, Tensor) or made.grad_fn is None:
            raise StageError("the network does not make a tensor that follows from the image")
        return made

    def _note(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        first = made[0] if isinstance(made, tuple) else made
        if given and isinstance(given[0], Tensor):
            self.calls.append(_Call(self.names[module], module, given[0].grad_fn, first.grad_fn))

    def _note_rectifier(self, module: nn.Module, given: Any, made: Tensor) -> None:
        self.rectified[made.grad_fn] = self.names[module]

    def _reach(self, starts: Iterable[Node]) -> _Reach:
        """Walk back to the layers that are read."""
        found, seen = _Reach(), set()
        stack = [(node, False, False) for node in starts]
        while stack:
            step = stack.pop()
            node, factor, gated = step
            if node is None or step in seen:
                continue
            seen.add(step)
            source = self.sources.get(node)
            if source is not None:
                found.sources[source] = found.sources.get(source, True) and gated
                continue
            if not gated:
                found.passed.add(node)
            product = node.name().startswith("MulBackward")
            gated = gated or (factor and node.name().startswith(_GATES))
            small = _smaller_factor(node) if product else None
            for index, (before, _) in enumerate(node.next_functions):
                stack.append((before, factor or product, gated or index == small))
        return found

    def roles(self) -> Roles:
        left = self._left()
        chosen = list(dict.fromkeys(c.name for c in self.calls if c.name not in left))
        passed: set[Node] = set()
        for call, reach in self.reads:
            if call.name in chosen:
                passed |= reach.passed
        rectifiers = {self.rectified[node] for node in passed if node in self.rectified}
        by_function = any(
            node.name().startswith(_RECTIFIERS) and node not in self.rectified for node in passed
        )
        return Roles(tuple(chosen), left, tuple(sorted(rectifiers)), by_function)

    def _left(self) -> dict[str, str]:
        """Say of every layer that stays why; the first reason that applies."""
        gates, shortcuts = self._gates(), self._shortcuts()
        first = {call.name for call, reach in self.reads if IMAGE in reach.sources}
        unread = {call.name for call, reach in self.reads if not reach.sources}
        left: dict[str, str] = {}
        called = {call.name: call.module for call in self.calls}
        for name, layer in self._with_weights():
            reason = (
                self._unfit(name, layer)
                or (name not in called and "it is not called as a layer")
                or (name in first and "it reads the image")
                or (name in unread and "it reads nothing that follows from the image")
                or (name in self.logits.sources and "it makes the logits")
                or (name in gates and "it is part of a gate")
                or (name in shortcuts and "it is a shortcut")
            )
            if reason:
                left[name] = reason
        return left

    def _with_weights(self) -> Iterator[tuple[str, nn.Module]]:
        return ((n, m) for m, n in self.names.items() if isinstance(m, _WEIGHTED))

    def _unfit(self, name: str, layer: nn.Module) -> str | None:
        owner = self.network.get_submodule(name.rpartition(".")[0])
        if type(owner).__module__.startswith("torch.nn") and not isinstance(owner, _PLAIN):
            return f"{type(owner).__name__} computes with its weights itself"
        if type(layer) not in (nn.Conv2d, nn.Linear):
            return f"a {type(layer).__name__} is not binarised"
        shared = [m for m in self.network.modules() if getattr(m, "weight", None) is layer.weight]
        if len(shared) > 1:
            return "its weight is shared with another layer"
        if isinstance(layer, nn.Conv2d):
            if layer.groups > 1 and layer.groups == layer.in_channels:
                return "it is depth-wise: of one window's signs few values are left"
            if layer.padding_mode != "zeros":
                return f"it pads with {layer.padding_mode!r}, not with zeros"
        return None

    def _gates(self) -> set[str]:
        """Return the layers that reach the logits only as factors of larger maps."""
        found: set[str] = set()
        for call in reversed(self.calls):
            uses = [(c.name, r.sources[call.name]) for c, r in self.reads if call.name in r.sources]
            if call.name in self.logits.sources:
                uses.append(("", self.logits.sources[call.name]))
            if uses and all(gated or name in found for name, gated in uses):
                found.add(call.name)
        return found

    def _shortcuts(self) -> set[str]:
        """Return the 1 x 1 convolutions around others with a wider window."""
        reads: dict[str, set[str]] = {}
        for call, reach in self.reads:
            reads.setdefault(call.name, set()).update(reach.sources)
        wide = {call.name for call in self.calls if not _pointwise(call.module)}
        nodes = set(self.logits.passed).union(*(reach.passed for _, reach in self.reads))
        found: set[str] = set()
        for node in nodes:
            if not node.name().startswith("AddBackward"):
                continue
            sides = [set(self._reach([before]).sources) for before, _ in node.next_functions]
            for own, other in zip(sides, reversed(sides), strict=True):
                for name in own - {IMAGE} - wide - found:
                    if reads[name] & _behind(other - own, reads, wide, name):
                        found.add(name)
        return found


def _behind(
    starts: set[str], reads: Mapping[str, set[str]], wide: set[str], without: str
) -> set[str]:
    """Return what layers read by a way with a wider window on it that avoids one layer."""
    stack, seen = [(name, False) for name in starts], set()
    while stack:
        name, widened = stack.pop()
        if (name, widened) in seen or name == without:
            continue
        seen.add((name, widened))
        stack += [(source, widened or name in wide) for source in reads.get(name, ())]
    return {name for name, widened in seen if widened}


def _pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)


def _smaller_factor(node: Node) -> int | None:
    """Return which factor of a product is broadcast to the other, None where neither is."""
    factors = [(before, index) for before, index in node.next_functions if before is not None]
    if len(factors) != 2:
        return None
    first, second = (math.prod(before._input_metadata[index].shape) for before, index in factors)
    return None if first == second else int(second < first)
