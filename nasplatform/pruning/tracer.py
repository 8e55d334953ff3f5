"""Hands groups on from tensor to tensor while a network runs, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasplatform.errors import StageError
from nasplatform.pruning.computed import COMPUTED, of_parameters_alone
from nasplatform.pruning.couplings import along, axis_of, laid
from nasplatform.pruning.rules import copy, layout, pointwise, rule_of, slicing, splitting, view
from nasplatform.pruning.trace import Call, Trace, tensors_in
from nasplatform.pruning.weighted import WEIGHTED
from nasplatform.training.operations import Operations

_OPAQUE = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Modules whose inner widths hang together in more ways than one axis can say."""
_ALSO_OF_PARAMETERS = (copy, layout, pointwise, slicing, splitting, view)


@runtime_checkable
class SlicesChannels(Protocol):
    """A module whose forward pass cuts tensors to widths that it keeps as numbers.

    ``fit_widths`` is called after its layers lost channels: names below the module -> ``outputs``
    and for layers with weights ``inputs``, the channels that are left.
    """

    def fit_widths(self, kept: Any) -> None:
        """Set the numbers to what is left."""


class Tracer(Operations):
    """Follows what a network computes within the block."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.trace = Trace(module)

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation, then work out the groups of what it made."""
        made = super().compute(func, args, kwargs)
        self.trace.keep_alive(args, kwargs, made)
        self.trace.calls[func.overloadpacket.__name__] += 1
        call = Call(func, func.overloadpacket.__name__, args, kwargs, made, self.place)
        self._follow(call)
        return made

    def enter(self, images: Tensor) -> None:
        """Begin with the images, whose channels stay."""
        groups = self.trace.couplings.new(images.shape[1])
        self.trace.couplings.pin(groups)
        self.trace.label(images, laid(groups, 1, images.dim()))

    def leave(self, made: Any) -> None:
        """End with the logits, which stay."""
        if not isinstance(made, Tensor) or made.dim() != 2:
            raise StageError("the network does not make one tensor of logits (batch, classes)")
        labels = self.trace.followed(made)
        if labels is not None:
            self.trace.logits.append(self.trace.couplings.pin(labels.flatten().numpy()))
        self.trace.freeze_all()

    @property
    def place(self) -> str:
        """The module that is being computed, in words."""
        names = [name for name, _ in self.trace.inside if name]
        return f"layer {names[-1]!r}" if names else "the network itself"

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Keep track of which module is being computed, and of what leaves each leaf module."""
        handles: list[Any] = []
        for name, child in module.named_modules():
            handles.append(child.register_forward_pre_hook(self._entering(name)))
            handles.append(child.register_forward_hook(self._leaving(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Any:
        def hook(child: nn.Module, given: Any) -> None:
            self.trace.inside.append((name, child))
            self.trace.slicers += isinstance(child, SlicesChannels)
            if isinstance(child, _OPAQUE):
                self.trace.opaque.append(f"{self.place} ({type(child).__name__})")

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(child: nn.Module, given: Any, made: Any) -> None:
            self.trace.inside.pop()
            self.trace.slicers -= isinstance(child, SlicesChannels)
            if isinstance(child, _OPAQUE):
                self.trace.opaque.pop()
            mixes_places = isinstance(child, nn.Linear)  # and is no layer over channels
            if not (any(child.children()) or name in self.trace.layers or mixes_places):
                self._note(name, made)

        return hook

    def _note(self, name: str, made: Any) -> None:
        labels = self.trace.followed(made) if isinstance(made, Tensor) else None
        axis = 1 if labels is None else axis_of(labels) or 1
        if labels is not None and made.dim() > axis:  # of several axes none tells the width
            groups = along(labels, axis, made.shape[axis])
            if groups is not None:
                self.trace.maps[name] = groups

    def _follow(self, call: Call) -> None:
        trace = self.trace
        if call.name == "t" and trace.owner(call.args[0]) is not None:
            trace.turn(call.args[0], call.made)
            return
        alone = of_parameters_alone(trace, call)
        if not alone:
            trace.use(call)
        given = [t for t in call.tensors if trace.followed(t) is not None]
        weighted = WEIGHTED.get(call.name) or COMPUTED.get(call.name)
        rule = rule_of(call.func)
        of_parameters = rule in _ALSO_OF_PARAMETERS and any(map(trace.is_derived, call.tensors))
        if not (given or weighted or of_parameters):
            return
        if not any(isinstance(t, Tensor) for t in tensors_in((call.made,))):
            return  # asks for a size
        hand_on = None if trace.opaque else weighted or rule
        labels = None if hand_on is None else hand_on(trace, call)
        tables = of_parameters and (alone and trace.is_form(call) if given else labels is None)
        laid_out = tables and trace.derive(call)
        if labels is None and laid_out:
            return
        if labels is None:
            self._pin(call, given)
        elif isinstance(labels, list):
            for tensor, own in zip(call.made, labels, strict=True):
                trace.label(tensor, own)
        else:
            first = call.made[0] if isinstance(call.made, (tuple, list)) else call.made
            trace.label(first, labels)
        if alone and labels is not None:
            trace.compute(call)

    def _pin(self, call: Call, given: list[Tensor]) -> None:
        """Keep what cannot be followed as it is."""
        what = f"operation {call.name!r} in {call.place}"
        reason = f"{self.trace.opaque[0] if self.trace.opaque else what} cannot be followed"
        for tensor in given:
            labels = self.trace.followed(tensor)
            if labels is not None:
                self.trace.couplings.pin(labels.flatten().numpy(), reason)
        self.trace.freeze(call.tensors, reason)


def run_traced(module: nn.Module, images: Tensor) -> Trace:
    """Run images through a network in evaluation mode and return what was found.

    Raises StageError where the network cannot be run.
    """
    tracer = Tracer(module)
    was_training, fast = module.training, torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, whose parts cannot be seen
    try:
        with tracer.watching(module), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), tracer:
            tracer.enter(images)
            tracer.leave(module(images))
    except StageError:
        raise
    except Exception as error:  # whatever the network of a third party raises
        words = " ".join(str(error).split())[:200]
        raise StageError(
            f"the channels of the network cannot be traced: {tracer.place} raises {words!r}"
        ) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        module.train(was_training)
    return tracer.trace
