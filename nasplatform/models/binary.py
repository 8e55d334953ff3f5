"""Layers whose weights and inputs are +1 or -1, kept as one bit each.

    y = scale * (sign(x + shift) (*) signs) + bias,    sign(0) = +1

What a convolution pads with contributes 0. Sums of signs are whole numbers, exact in float32, so
that whatever computes such a layer makes the same numbers, bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.errors import NetworkError

Pair = tuple[int, int]


class BinaryLayer(nn.Module, ABC):
    """What the two layers share: their state, and reading and writing the bits.

    bits:  (out, ceil(n / 8)) uint8; the n weights of an output channel in the order of the float
           layer's ``weight``, lowest bit first, 1 for +1.
    scale: (out,) float32.
    shift: (in,) float32, added to the inputs before their sign is taken; None for none.
    bias:  (out,) float32; None for none.
    """

    kind: ClassVar[str]
    replaces: ClassVar[type[nn.Module]]
    bits: Tensor

    def __init__(self, shape: tuple[int, ...], inputs: int, shift: bool, bias: bool) -> None:
        super().__init__()
        self.weight_shape = shape
        weights = int(np.prod(shape[1:]))
        self.register_buffer("bits", torch.zeros(shape[0], -(-weights // 8), dtype=torch.uint8))
        self.scale = nn.Parameter(torch.ones(shape[0]))
        self.shift = nn.Parameter(torch.zeros(inputs)) if shift else None
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self._unpacked: tuple[Tensor, int, Tensor] | None = None

    @classmethod
    @abstractmethod
    def like(cls, layer: Any, shift: bool, bias: bool) -> Self:
        """Return a layer of the same geometry as a float one, every weight -1, every scale 1.

        Raises NetworkError where the layer is of another kind or pads with something else than 0.
        """

    @property
    def binary_weights(self) -> int:
        """How many weights are kept as bits."""
        return int(np.prod(self.weight_shape))

    def signs(self) -> Tensor:
        """Return the weights as floats, +1 or -1, in the shape of the float layer's ``weight``.

        They are unpacked once and kept beside the state until the bits change.
        """
        bits, version = self.bits, self.bits._version
        if self._unpacked is None or self._unpacked[0] is not bits or self._unpacked[1] != version:
            packed = bits.detach().cpu().numpy()
            each = int(np.prod(self.weight_shape[1:]))
            flat = np.unpackbits(packed, axis=1, count=each, bitorder="little")
            values = np.where(flat, np.float32(1), np.float32(-1)).reshape(self.weight_shape)
            self._unpacked = bits, version, torch.from_numpy(values).to(bits.device)
        return self._unpacked[2]

    @torch.no_grad()
    def set_state(
        self, weight: Tensor, scale: Tensor, shift: Tensor | None, bias: Tensor | None
    ) -> Self:
        """Take the signs of a float weight, and the other tensors; raise NetworkError for shapes.

        What the layer was not made to have must be None, and the other way round.
        """
        if tuple(weight.shape) != self.weight_shape:
            raise NetworkError(
                f"the weight is of shape {tuple(weight.shape)}, expected {self.weight_shape}"
            )
        positive = (weight.detach().cpu().numpy() >= 0).reshape(len(weight), -1)
        packed = np.packbits(positive, axis=1, bitorder="little")
        self.bits.copy_(torch.from_numpy(packed))
        for name, values in (("scale", scale), ("shift", shift), ("bias", bias)):
            parameter = getattr(self, name)
            if (parameter is None) != (values is None):
                raise NetworkError(f"the layer has {'no' if parameter is None else 'a'} {name}")
            if values is not None:
                if parameter.shape != values.shape:
                    raise NetworkError(
                        f"{name} is of shape {tuple(values.shape)}, "
                        f"expected {tuple(parameter.shape)}"
                    )
                parameter.copy_(values)
        return self

    def _scaled(self, sums: Tensor, channels: tuple[int, ...]) -> Tensor:
        """Multiply sums of signs by the scale, then add the bias: two roundings."""
        made = sums * self.scale.view(channels)
        return made if self.bias is None else made + self.bias.view(channels)


class BinaryConv2d(BinaryLayer):
    """(B, in, h, w) -> (B, out, h', w'), with the geometry of ``nn.Conv2d``."""

    kind = "conv2d"
    replaces = nn.Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = (1, 1),
        padding: Pair | str = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        *,
        shift: bool = False,
        bias: bool = False,
    ) -> None:
        shape = (out_channels, in_channels // groups, *kernel_size)
        super().__init__(shape, in_channels, shift, bias)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.groups = dilation, groups

    @classmethod
    def like(cls, layer: Any, shift: bool, bias: bool) -> Self:
        """Take over the geometry of an ``nn.Conv2d``."""
        _check_kind(layer, cls.replaces)
        if layer.padding_mode != "zeros":
            raise NetworkError(f"it pads with {layer.padding_mode!r}, a binary one with zeros only")
        return cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            shift=shift,
            bias=bias,
        )

    @classmethod
    def from_signs(
        cls,
        weight: Tensor,
        scale: Tensor,
        *,
        stride: Pair = (1, 1),
        padding: Pair | str = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        shift: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Self:
        """Make the layer of the signs of a float weight (out, in / groups, h, w)."""
        out, inputs, *kernel = weight.shape
        layer = cls(
            inputs * groups,
            out,
            (kernel[0], kernel[1]),
            stride,
            padding,
            dilation,
            groups,
            shift=shift is not None,
            bias=bias is not None,
        )
        return layer.set_state(weight, scale, shift, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the convolution of the signs."""
        moved = inputs if self.shift is None else inputs + self.shift.view(1, -1, 1, 1)
        sums = functional.conv2d(
            sign(moved),
            self.signs(),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )
        return self._scaled(sums, (1, -1, 1, 1))

    def extra_repr(self) -> str:
        """Say the geometry."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, shift={self.shift is not None}, bias={self.bias is not None}"
        )


class BinaryLinear(BinaryLayer):
    """(..., in) -> (..., out)."""

    kind = "linear"
    replaces = nn.Linear

    def __init__(
        self, in_features: int, out_features: int, *, shift: bool = False, bias: bool = False
    ) -> None:
        super().__init__((out_features, in_features), in_features, shift, bias)
        self.in_features, self.out_features = in_features, out_features

    @classmethod
    def like(cls, layer: Any, shift: bool, bias: bool) -> Self:
        """Take over the widths of an ``nn.Linear``."""
        _check_kind(layer, cls.replaces)
        return cls(layer.in_features, layer.out_features, shift=shift, bias=bias)

    @classmethod
    def from_signs(
        cls,
        weight: Tensor,
        scale: Tensor,
        *,
        shift: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Self:
        """Make the layer of the signs of a float weight (out, in)."""
        out, inputs = weight.shape
        layer = cls(inputs, out, shift=shift is not None, bias=bias is not None)
        return layer.set_state(weight, scale, shift, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the product of the signs."""
        moved = inputs if self.shift is None else inputs + self.shift
        return self._scaled(functional.linear(sign(moved), self.signs()), (-1,))

    def extra_repr(self) -> str:
        """Say the widths."""
        return (
            f"{self.in_features}, {self.out_features}, "
            f"shift={self.shift is not None}, bias={self.bias is not None}"
        )


LAYERS: Mapping[str, type[BinaryLayer]] = {
    layer.kind: layer for layer in (BinaryConv2d, BinaryLinear)
}
"""The binary layers by the kind that an edit names."""


def sign(values: Tensor) -> Tensor:
    """Return +1 where a value is at least 0, else -1 (so for what is not a number)."""
    return torch.where(values >= 0, 1.0, -1.0)


def binary_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """Return the binary layers of a network by dotted name; empty where it has none."""
    return {name: m for name, m in module.named_modules() if isinstance(m, BinaryLayer)}


def describe_layers(layers: Mapping[str, BinaryLayer]) -> dict[str, Any]:
    """Return the payload of the edit ``binarized.1`` that puts such layers in their places."""
    return {
        "layers": {
            name: {
                "kind": layer.kind,
                "shift": layer.shift is not None,
                "bias": layer.bias is not None,
            }
            for name, layer in layers.items()
        }
    }


def binarized(module: nn.Module, payload: Mapping[str, Any]) -> nn.Module:
    """Replace float layers by binary ones of their geometry, in place; the edit ``binarized.1``.

    payload: ``layers``, by dotted name: ``kind`` (conv2d or linear), ``shift``, ``bias``.
    Raises NetworkError where a layer is not what the payload says.
    """
    made: dict[nn.Module, BinaryLayer] = {}
    for name, entry in payload["layers"].items():
        try:
            layer = module.get_submodule(name)
            made[layer] = LAYERS[entry["kind"]].like(layer, entry["shift"], entry["bias"])
        except (AttributeError, KeyError, TypeError, NetworkError) as error:
            raise NetworkError(f"layer {name!r} cannot be binarised: {error}") from None
    return put_layers(module, made)


def put_layers(module: nn.Module, made: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put layers in the places of others, wherever those are held; return the network."""
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in made:
                setattr(parent, name, made[child])
    return made.get(module, module)


def _check_kind(layer: object, expected: type[nn.Module]) -> None:
    if type(layer) is not expected:
        raise NetworkError(f"it is a {type(layer).__name__}, expected {expected.__name__}")
