"""What is known of a network while it runs: labels of tensors, layers, coupled parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.pruning.arrangements import Arrangements
from nasplatform.pruning.couplings import Couplings, along, laid, places_of
from nasplatform.pruning.derived import Derived
from nasplatform.pruning.graph import Contraction, Groups, Layer, Loose

BATCH = 2
"""Images that run through the network: two, so that code that squeezes works as it does later."""


@dataclass(frozen=True)
class Call:
    """One operation of torch: its name, what it was given, what it made, and where."""

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: Any
    place: str

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """Return an argument that may be given by place or by name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return list(tensors_in((*self.args, *self.kwargs.values())))


class Owned(NamedTuple):
    """A parameter or buffer, by the first name under which the network holds it."""

    name: str
    turned: bool = False


class Trace:
    """The notes that rules read and write."""

    def __init__(self, module: nn.Module) -> None:
        self.couplings = Couplings()
        self.inside: list[tuple[str, nn.Module]] = []
        self.slicers = 0
        self.opaque: list[str] = []
        self.layers: dict[str, Layer] = {}
        self.maps: dict[str, Groups] = {}
        self.norms: dict[str, str] = {}
        self.statistics: list[tuple[int, Groups] | None] = []
        self.contractions: list[Contraction | None] = []
        self.arrangements = Arrangements(self.couplings)
        self._derived: dict[int, Derived] = {}
        self._labels: dict[int, Tensor] = {}
        self._alive: list[Any] = []  # so that no identity is given out twice
        self._made_by: dict[int, str] = {}
        self._owners: dict[int, Owned] = {}
        self._owned: dict[str, Tensor] = {}
        self._couplings_of: dict[tuple[str, int], Groups] = {}
        self._explained: set[str] = set()
        self._frozen: dict[str, str] = {}
        for prefix, child in module.named_modules():
            for name, tensor in held(child).items():
                path = f"{prefix}.{name}" if prefix else name
                owned = self._owners.setdefault(id(tensor), Owned(path))
                self._owned.setdefault(owned.name, tensor)

    # labels of tensors

    def keep_alive(self, *values: Any) -> None:
        """Hold on to tensors while the trace lasts."""
        self._alive.append(values)

    def labels(self, tensor: Any) -> Tensor | None:
        """Return the labels of a tensor; a vector among the parameters gets new ones."""
        known = self._labels.get(id(tensor))
        owned = self._owners.get(id(tensor))
        if known is not None or owned is None or owned.turned:
            return known
        axes = [axis for axis, length in enumerate(tensor.shape) if length > 1]
        if len(axes) != 1:
            return None
        (axis,) = axes
        if (owned.name, axis) not in self._couplings_of:
            self._couplings_of[owned.name, axis] = self.couplings.new(tensor.shape[axis])
        return laid(self._couplings_of[owned.name, axis], axis, tensor.dim())

    def followed(self, tensor: Any) -> Tensor | None:
        """Return the labels of a tensor that was computed."""
        return self._labels.get(id(tensor))

    def label(self, tensor: Tensor, labels: Tensor) -> None:
        """Note the labels of a tensor."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def read(self, tensor: Tensor, axis: int, place: str) -> Groups:
        """Return the groups of what a layer reads; channels that are not followed stay."""
        labels, length = self.followed(tensor), tensor.shape[axis]
        groups = None if labels is None else along(labels, axis, length)
        if groups is not None:
            return groups
        if labels is not None and len(places_of(labels)) > 1:
            return self._read_slices(labels, tensor, axis, place)
        if labels is not None:
            reason = f"{place} reads channels from an axis on which they do not lie"
            self.couplings.pin(labels.flatten().numpy(), reason)
        return self.couplings.pin(self.couplings.new(length))

    def _read_slices(self, labels: Tensor, tensor: Tensor, axis: int, place: str) -> Groups:
        """Return the groups of an axis; whatever lies along the others stays."""
        reason = f"{place} reads channels that lie along several axes"
        found = self.couplings.slices(labels, axis, tensor.shape[axis])
        if found is None:
            self.couplings.pin(labels.flatten().numpy(), reason)
            return self.couplings.pin(self.couplings.new(tensor.shape[axis]))
        for other in places_of(labels):
            groups = self.couplings.slices(labels, other, tensor.shape[other])
            if other != axis and groups is not None:
                self.couplings.pin(groups, reason)
        self.couplings.claim(found)
        return found

    # parameters

    def derived(self, tensor: Any) -> Derived | None:
        """Return what is known of a tensor whose numbers are those of parameters or buffers."""
        known, owned = self._derived.get(id(tensor)), self.owner(tensor)
        if known is None and owned is not None and not owned.turned:
            known = Derived.whole(owned.name, tensor)
        return known

    def of_parameter(self, tensor: Any, axis: int) -> Groups | None:
        """Return the groups of an axis of what was derived from parameters, new where unknown."""
        derived = self.derived(tensor)
        if derived is None or not derived.sources(axis):
            return None
        groups = self.couplings.new(tensor.shape[axis])
        return groups if self.couple(tensor, axis, groups) else None

    def derive(self, call: Call) -> bool:
        """Follow a layout or combination of parameters that have several axes."""
        found = [(tensor, self.derived(tensor)) for tensor in call.tensors]
        made = Derived.by(call, found)
        if made is not None:
            self._derived[id(call.made)] = made
        return made is not None

    def owner(self, tensor: Any) -> Owned | None:
        """Return under which name the network holds a tensor, None if it does not."""
        return self._owners.get(id(tensor))

    def turn(self, tensor: Tensor, made: Tensor) -> None:
        """Note the transpose of a parameter."""
        owned = self._owners[id(tensor)]
        self._owners[id(made)] = Owned(owned.name, not owned.turned)

    def couple(self, tensor: Any, axis: int, groups: Groups) -> bool:
        """Tie an axis of a parameter, or of what was made of one; False if it is none."""
        owned = self.owner(tensor)
        if owned is not None:
            known = self._couplings_of.setdefault((owned.name, axis), groups)
            self.couplings.unite(known, groups)
            return True
        if id(tensor) in self._derived:
            return self._couple_derived(self._derived[id(tensor)], axis, groups)
        labels = self.followed(tensor)
        found = None if labels is None else along(labels, axis, len(groups))
        if found is not None:
            self.couplings.unite(found, groups)
        return found is not None

    def _couple_derived(self, derived: Derived, axis: int, groups: Groups) -> bool:
        sources = derived.sources(axis)
        for name, own, places in sources or ():
            ordered = np.empty_like(groups)
            ordered[places] = groups
            known = self._couplings_of.setdefault((name, own), ordered)
            self.couplings.unite(known, ordered)
        return sources is not None

    def freeze(self, tensors: Iterable[Tensor], reason: str) -> None:
        """Keep parameters as they are, however else they are used."""
        for tensor in tensors:
            owned, derived = self.owner(tensor), self._derived.get(id(tensor))
            for name in [owned.name] if owned else derived.names if derived else []:
                self._frozen.setdefault(name, reason)

    def freeze_all(self) -> None:
        """Pin what is coupled with frozen parameters; called once, in the end."""
        for (name, _), groups in self._couplings_of.items():
            if name in self._frozen:
                self.couplings.pin(groups, self._frozen[name])

    @property
    def loose(self) -> dict[str, Loose]:
        """Parameters and buffers that go with groups and belong to no layer."""
        found: dict[str, Loose] = {}
        for (name, axis), groups in self._couplings_of.items():
            if name in self._explained:
                continue
            tensor = self._owned[name]
            each = tensor.numel() // len(groups) if isinstance(tensor, nn.Parameter) else 0
            if name in found:
                reason = f"parameter {name!r} is used on two axes"
                for other in (groups, found[name].groups):
                    self.couplings.pin(other, reason)
            found[name] = Loose(axis, groups, each)
        return found

    # layers

    @property
    def module(self) -> nn.Module:
        """The innermost module that is being computed."""
        return self.inside[-1][1]

    def holder(self, tensor: Any, name: str) -> str | None:
        """Return the innermost module's name if it holds the tensor under that name."""
        owned = self.owner(tensor)
        if owned is None or not self.inside:
            return None
        own = held(self.module).get(name)
        return self.inside[-1][0] if own is self._owned[owned.name] else None

    def layer(self, layer: Layer, made: Tensor) -> Groups:
        """Note a layer; one that is used again must lose the same channels everywhere."""
        known = self.layers.get(layer.name)
        if known is not None:
            self.couplings.unite(known.inputs, layer.inputs)
            self.couplings.unite(known.outputs, layer.outputs)
            self.layers[layer.name] = replace(known, area=known.area + layer.area)
        else:
            self.layers[layer.name] = layer
        if layer.area:
            self._made_by[id(made)] = layer.name
        return layer.outputs

    def fresh(self, *tensors: Any) -> int:
        """Count the parameters among tensors that no layer has explained yet."""
        owners = [self.owner(tensor) for tensor in tensors]
        return sum(owned is not None and owned.name not in self._explained for owned in owners)

    def explain(self, layer: str, **tensors: Any) -> tuple[str, ...]:
        """Note and return what a layer holds under these names, and its cut takes along."""
        names = tuple(name for name, t in tensors.items() if self.holder(t, name) == layer)
        owners = [self.owner(tensors[name]) for name in names]
        self._explained |= {owned.name for owned in owners if owned is not None}
        return names

    def maker(self, tensor: Tensor) -> str | None:
        """Return the layer with weights that made exactly this tensor."""
        return self._made_by.get(id(tensor))


def held(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that a module holds itself, shared ones too."""
    every = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in every.items() if isinstance(tensor, torch.Tensor)}


def tensors_in(values: Iterable[Any]) -> Iterable[Tensor]:
    """Yield the tensors among nested arguments."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
