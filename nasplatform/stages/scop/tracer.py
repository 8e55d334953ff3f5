"""Follows the channels of every tensor through one forward pass, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasplatform.errors import StageError

Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and the groups of its channels.

    name:    the module's name in the network.
    inputs:  group of each input channel (of each input feature of a linear layer), (in,).
    outputs: group of each output channel, (out,); inputs and outputs of a normalisation are one.
    groups:  groups of a convolution, in torch's sense of the word.
    window:  size of its window; 1 for other layers.
    area:    places where it is computed for one image; 0 for a normalisation.
    vectors: parameters per output channel beside the window: bias, scale and shift.
    """

    name: str
    inputs: Groups
    outputs: Groups
    groups: int = 1
    window: int = 1
    area: int = 0
    vectors: int = 0


_OPERATIONS = {
    "same": (
        *("relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "gelu_", "silu"),
        *("silu_", "hardtanh", "hardtanh_", "hardswish", "hardswish_", "hardsigmoid"),
        *("hardsigmoid_", "sigmoid", "sigmoid_", "tanh", "tanh_", "clone", "detach", "alias"),
        *("_to_copy", "neg", "abs", "sqrt", "exp", "pow", "zeros_like", "ones_like", "zero_"),
        *("native_dropout", "upsample_nearest2d", "upsample_bilinear2d", "avg_pool2d"),
        *("max_pool2d_with_indices", "_adaptive_avg_pool2d", "adaptive_max_pool2d"),
    ),
    "combination": (
        *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "maximum", "minimum"),
        "copy_",
    ),
    "normalisation": (
        *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "batch_norm"),
        *("_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
    ),
    "shape": ("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "expand"),
    "reduction": ("mean", "sum", "amax", "amin"),
    "convolution": ("convolution", "mkldnn_convolution"),
    "linear": ("addmm", "mm"),
    "concatenation": ("cat",),
    "cut": ("slice",),
    "padding": ("constant_pad_nd",),
}
"""By which rule an operation of torch hands groups on; whatever is missing pins them."""
_RULES = {name: rule for rule, names in _OPERATIONS.items() for name in names}


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """Hands groups on from tensor to tensor while a network runs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.flexible = 0
        self.inside: list[str] = []
        self.unfollowed: list[str] = []
        self._parents: list[int] = []
        self._pinned: set[int] = set()
        self._groups: dict[int, Groups] = {}
        self._alive: list[Any] = []  # so that no identity is given out twice
        self._made_by: dict[int, str] = {}
        self._layers: dict[str, Layer] = {}
        self._maps: dict[str, Groups] = {}
        self.norms: dict[str, str] = {}
        self._owners = {
            id(tensor): name
            for name, child in module.named_modules()
            for tensor in (*child.parameters(recurse=False), *child.buffers(recurse=False))
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation, then work out the groups of what it made."""
        made = func(*args, **(kwargs or {}))
        self._alive.append((args, made))
        self._follow(func.overloadpacket.__name__, args, kwargs or {}, made)
        return made

    def enter(self, image: Tensor) -> None:
        """Begin with the image, whose channels stay."""
        self._set(image, self._pin(self._new(image.shape[1])))

    def leave(self, made: Any) -> None:
        """End with the logits, which stay."""
        if not isinstance(made, Tensor) or made.dim() != 2:
            raise StageError("the network does not make one tensor of logits (batch, classes)")
        self._pin(self._groups.get(id(made)))

    def note(self, name: str, made: Any) -> None:
        """Note the groups of what a leaf module made."""
        if isinstance(made, Tensor) and id(made) in self._groups and name not in self._layers:
            self._maps[name] = self._groups[id(made)]

    @property
    def place(self) -> str:
        """The module that is being computed, in words."""
        names = [name for name in self.inside if name]
        return f"layer {names[-1]!r}" if names else "the network itself"

    @property
    def layers(self) -> dict[str, Layer]:
        """Every layer with weights, in the order of computation; each group as its root."""
        return {
            name: replace(layer, inputs=self.roots(layer.inputs), outputs=self.roots(layer.outputs))
            for name, layer in self._layers.items()
        }

    @property
    def maps(self) -> dict[str, Groups]:
        """What every other leaf module makes, by name; each group as its root."""
        return {name: self.roots(groups) for name, groups in self._maps.items()}

    @property
    def pinned(self) -> set[int]:
        """The groups that stay, as their roots."""
        return {self._root(group) for group in self._pinned}

    def _follow(self, name: str, args: Any, kwargs: Any, made: Any) -> None:
        """Work out the groups of what an operation made."""
        if name == "t" and id(args[0]) in self._owners:
            self._owners[id(made)] = self._owners[id(args[0])]
            return
        given = [tensor for tensor in _tensors(args) if id(tensor) in self._groups]
        first = made[0] if isinstance(made, (tuple, list)) and made else made
        rule = _RULES.get(name, "unknown")
        if not isinstance(first, Tensor) or not (given or rule in ("convolution", "linear")):
            return
        follow = getattr(self, f"_{rule}")
        groups = follow(args, kwargs, first)
        if groups is None:  # what cannot be followed stays as it is
            self.unfollowed.append(f"operation {name!r} in {self.place}")
            for tensor in given:
                self._pin(self._groups[id(tensor)])
        else:
            self._set(first, groups)

    def _unknown(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        return None

    def _same(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        groups = self._of(args[0])
        fits = groups is not None and made.dim() > 1 and made.shape[1] == len(groups)
        return groups if fits else None

    def _convolution(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        given, weight, bias, *_, transposed, _, groups = args
        name = self._owners.get(id(weight))
        if name is None or transposed or given.dim() < 3:
            return None
        inputs = self._read(given)
        outputs = self._new(weight.shape[0])
        if groups > 1 and groups == len(inputs):  # depthwise: each output goes with its input
            self._unite(outputs, np.repeat(inputs, len(outputs) // groups))
        elif groups > 1:  # all groups of the convolution must stay equally wide
            for channels in (inputs, outputs):
                columns = channels.reshape(groups, -1)
                self._unite(columns, np.broadcast_to(columns[0], columns.shape))
        window, area = int(weight[0, 0].numel()), int(made[0, 0].numel())
        vectors = int(bias is not None)
        return self._layer(Layer(name, inputs, outputs, groups, window, area, vectors), made)

    def _normalisation(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        given, *parameters = args
        owners = [self._owners[id(p)] for p in parameters[:4] if id(p) in self._owners]
        groups = self._of(given)
        if not owners or groups is None:
            return None
        maker = self._made_by.get(id(given))
        if maker is not None:
            self.norms[maker] = owners[0]
        vectors = sum(tensor is not None for tensor in parameters[:2])
        return self._layer(Layer(owners[0], groups, groups, vectors=vectors), made)

    def _linear(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        given, weight = args[-2:]
        name = self._owners.get(id(weight))
        if name is None or given.dim() != 2:
            return None
        inputs = self._read(given)
        outputs, vectors = self._new(weight.shape[1]), len(args) - 2
        return self._layer(Layer(name, inputs, outputs, area=1, vectors=vectors), made)

    def _combination(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        found: list[Groups] = []
        for tensor in (arg for arg in args[:2] if isinstance(arg, Tensor)):
            groups = self._of(tensor)
            axis = tensor.dim() - made.dim() + 1
            wide = axis >= 0 and tensor.shape[axis] > 1
            if groups is not None and tensor.dim() == made.dim() and len(groups) == made.shape[1]:
                found.append(groups)
            elif wide or groups is not None:
                return None
        for other in found[1:]:
            self._unite(found[0], other)
        return found[0] if found else None

    def _concatenation(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        parts = [self._of(tensor) for tensor in args[0]]
        if axis % made.dim() == 1:
            whole = [
                self._pin(self._new(tensor.shape[1])) if part is None else part
                for part, tensor in zip(parts, args[0], strict=True)
            ]
            return np.concatenate(whole)
        known = [part for part in parts if part is not None]
        if axis % made.dim() == 0 or len(known) != len(parts):
            return None
        for other in known[1:]:
            self._unite(known[0], other)
        return known[0]

    def _cut(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        groups = self._of(args[0])
        axis, *bounds = args[1:] or (0,)
        axis %= args[0].dim()
        if groups is None or axis != 1:
            return groups if axis else None
        kept = groups[slice(*bounds)] if bounds else groups
        if len(kept) < len(groups) and not self.flexible:
            self._pin(groups)  # a number in the code says how many, so they must stay
        return kept

    def _padding(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        return self._same(args, kwargs, made) if made.shape[1] == args[0].shape[1] else None

    def _reduction(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        axes = args[1] if len(args) > 1 else kwargs.get("dim")
        axes = [axes] if isinstance(axes, int) else axes
        if not axes or any(axis % args[0].dim() < 2 for axis in axes):
            return None
        return self._same(args, kwargs, made)

    def _shape(self, args: Any, kwargs: Any, made: Tensor) -> Groups | None:
        given, groups = args[0], self._of(args[0])
        if groups is None or made.dim() < 2 or given.shape[0] != made.shape[0]:
            return None
        if made.shape[1] == given.shape[1]:
            return groups
        places = given[0, 0].numel() if given.dim() > 2 else 1
        flat = made.dim() == 2 and made.shape[1] == given.shape[1] * places
        return np.repeat(groups, places) if flat else None

    def _layer(self, layer: Layer, made: Tensor) -> Groups:
        """Note a layer; one that is used again must lose the same channels everywhere."""
        known = self._layers.get(layer.name)
        if known is not None:
            self._unite(known.inputs, layer.inputs)
            self._unite(known.outputs, layer.outputs)
        area = layer.area + (known.area if known else 0)
        self._layers[layer.name] = replace(layer, area=area)
        if layer.area:
            self._made_by[id(made)] = layer.name
        return layer.outputs

    def _read(self, tensor: Tensor) -> Groups:
        """Return the groups of what a layer reads; channels that were not followed stay."""
        groups = self._of(tensor)
        return self._pin(self._new(tensor.shape[1])) if groups is None else groups

    def _of(self, tensor: Any) -> Groups | None:
        return self._groups.get(id(tensor))

    def _set(self, tensor: Tensor, groups: Groups) -> None:
        self._groups[id(tensor)] = groups
        self._alive.append(tensor)

    def _new(self, count: int) -> Groups:
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _pin(self, groups: Groups | None) -> Groups:
        found = np.zeros(0, np.int64) if groups is None else groups
        self._pinned.update(found.tolist())
        return found

    def _unite(self, first: Groups, second: Groups) -> None:
        for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            self._parents[self._root(a)] = self._root(b)

    def _root(self, group: int) -> int:
        while self._parents[group] != group:
            self._parents[group] = self._parents[self._parents[group]]
            group = self._parents[group]
        return group

    def roots(self, groups: Groups) -> Groups:
        """Return each group as the one number that stands for all it was united with."""
        return np.array([self._root(group) for group in groups.tolist()], np.int64)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
