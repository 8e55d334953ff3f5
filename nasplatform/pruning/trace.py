"""What is known of a network while it runs: labels of tensors, layers, coupled parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.pruning.arrangements import Arrangements
from nasplatform.pruning.couplings import Couplings, along, laid, places_of
from nasplatform.pruning.derived import Derived
from nasplatform.pruning.graph import Contraction, Groups, Layer, Loose, Statistic

BATCH = 2
"""Images that run through the network: two, so that code that squeezes works as it does later."""
Labels = Tensor | list[Tensor] | None
"""Of what a call made; None where a rule cannot tell."""


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
    """A parameter or buffer, by the first name under which the network holds it.

    turned:   the transpose of it.
    computed: what was made of it element by element; flat: in rows, one for each filter.
    """

    name: str
    turned: bool = False
    computed: bool = False
    flat: bool = False


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
        self.statistics: list[Statistic] = []
        self.logits: list[Groups] = []
        self.calls: Counter[str] = Counter()
        self.contractions: list[Contraction] = []
        self.arrangements = Arrangements(self.couplings)
        self._derived: dict[int, Derived] = {}
        self._filters: dict[str, Groups] = {}
        self._forms: dict[int, frozenset[str]] = {}
        self._labels: dict[int, Tensor] = {}
        self._alive: list[Any] = []  # so that no identity is given out twice
        self._made_by: dict[int, str] = {}
        self._of_parameters: set[int] = set()
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
        if known is None and owned is not None and not (owned.turned or owned.computed):
            known = Derived.whole(owned.name, tensor)
        return known

    def is_derived(self, tensor: Any) -> bool:
        """Say whether a tensor is a parameter or buffer, or what was made of such is known."""
        return self.owner(tensor) is not None or self.derived(tensor) is not None

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
        if any(one is None and self.of_parameters(tensor) for tensor, one in found if tensor.dim()):
            return False
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
        self._owners[id(made)] = owned._replace(turned=not owned.turned)

    def couple(self, tensor: Any, axis: int, groups: Groups) -> bool:
        """Tie an axis of a parameter, or of what was made of one; False if it is none."""
        owned = self.owner(tensor)
        if owned is not None and not (owned.computed and id(tensor) in self._derived):
            own = 1 - axis if owned.turned else axis
            if owned.computed and self._owned[owned.name].shape[own] != len(groups):
                return False
            self._tie(owned.name, own, groups)
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
            self._tie(name, own, ordered)
        return sources is not None

    def _tie(self, name: str, axis: int, groups: Groups) -> None:
        """Make one what lies on an axis of a parameter, and what is said to lie there."""
        known = self._couplings_of.setdefault((name, axis), groups)
        self.couplings.unite(known, groups)
        if axis == 0 and name in self._filters:
            self.couplings.unite(self._filters[name], groups)

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
        inside = self.inside[-1][0]
        if owned.computed:
            below = inside and owned.name.startswith(f"{inside}.")
            return inside if below and name == "weight" and not owned.flat else None
        own = held(self.module).get(name)
        return inside if own is self._owned[owned.name] else None

    def weight_name(self, tensor: Any) -> str:
        """Return under which name the innermost module holds a weight, or what made it."""
        owned = self._owners[id(tensor)]
        inside = self.inside[-1][0]
        return owned.name.removeprefix(f"{inside}.") if owned.computed else "weight"

    # what is computed of parameters alone

    def of_parameters(self, tensor: Any) -> bool:
        """Say whether a tensor is a parameter or buffer, or was computed of such alone."""
        return id(tensor) in self._owners or id(tensor) in self._of_parameters

    def is_weight(self, tensor: Any) -> bool:
        """Say whether a tensor is a parameter, as it is, of more than one axis."""
        owned = self.owner(tensor)
        return (
            owned is not None
            and not (owned.turned or owned.computed)
            and tensor.is_floating_point()
            and sum(length > 1 for length in tensor.shape) > 1
            and len(tensor) > 1
        )

    def side(self, name: str, axis: int) -> Groups:
        """Return the groups on an axis of a parameter, new ones where none are known."""
        if (name, axis) not in self._couplings_of:
            new = self.couplings.new(self._owned[name].shape[axis])
            self._couplings_of[name, axis] = new
        return self._couplings_of[name, axis]

    def label_weight(self, weight: Tensor) -> None:
        """Let the labels of a weight run along its filters, for as long as it meets no channels.

        A table of positions may have them elsewhere: see ``use``.
        """
        name = self._owners[id(weight)].name
        if name not in self._filters:
            known = self._couplings_of.get((name, 0))
            self._filters[name] = self.couplings.new(len(weight)) if known is None else known
        self.label(weight, laid(self._filters[name], 0, weight.dim()))
        self._forms[id(weight)] = frozenset([name])

    def is_form(self, call: Call) -> bool:
        """Say whether a call is given a weight, or what was computed of weights alone."""
        return any(id(tensor) in self._forms for tensor in call.tensors)

    def use(self, call: Call) -> None:
        """Let what was computed of weights alone meet something else.

        What was only laid out is found by where its numbers come from, whichever axis that is;
        of anything else the filters are what its labels say.
        """
        for tensor in call.tensors:
            names = self._forms.get(id(tensor), frozenset())
            if names and self.derived(tensor) is not None:
                self._labels.pop(id(tensor), None)
            elif self.owner(tensor) is None:
                for name in sorted(names):
                    self._tie(name, 0, self._filters[name])

    def compute(self, call: Call) -> None:
        """Note what was computed of parameters alone, and of which weight it still is a form."""
        made = [made for made in tensors_in((call.made,)) if id(made) not in self._owners]
        names = [self._forms.get(id(tensor), frozenset()) for tensor in call.tensors]
        if any(names):
            self._forms |= dict.fromkeys(map(id, made), frozenset[str]().union(*names))
        self._of_parameters.update(map(id, made))
        for tensor in call.tensors:
            owned = self.owner(tensor)
            first = made[0] if made else None
            if owned is None or first is None or first.dim() < 1 or tensor.dim() < 1:
                continue
            if (first.numel(), len(first)) == (tensor.numel(), len(tensor)):
                flat = owned.flat or first.shape != tensor.shape
                self._owners[id(first)] = Owned(owned.name, owned.turned, True, flat)
                return

    def seen_whole(self, call: Call, axis: int, groups: Groups) -> None:
        """Note a call that sees all channels on an axis at once."""
        self.statistics.append(Statistic(call.name, self.calls[call.name] - 1, axis, groups))

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
