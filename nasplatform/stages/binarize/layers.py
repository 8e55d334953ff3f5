"""Layers with latent float weights that compute with signs, for the time of the training."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.models.binary import put_layers
from nasplatform.stages.binarize.estimators import Estimator
from nasplatform.stages.binarize.noise import NoiseAdaptation, NoiseOptions


@dataclass
class Clock:
    """The share of the training that is over, one for all layers and all copies of them."""

    done: float = 0.0

    def at(self, step: int, steps: int) -> None:
        """Move to a step 0..steps-1; the last one is at 1."""
        self.done = step / (steps - 1) if steps > 1 else 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Clock:
        """Return the clock itself: an average of the weights goes by the same time."""
        return self


@dataclass(frozen=True)
class Binarisation:
    """How layers are binarised.

    estimator: turns weights and activations into signs.
    noise:     of the noise adaptation, or None.
    """

    estimator: Estimator
    noise: NoiseOptions | None = None
    clock: Clock = field(default_factory=Clock)


class LatentLayer(nn.Module):
    """A convolution or linear layer of signs: scale * layer(sign(x + shift), sign(W)) + bias.

    The scale of an output channel is the mean of |W|, which no gradient passes. In training mode
    the noise adaptation stands beside the signs; in evaluation mode there are signs alone.
    """

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, shift: Tensor | None, how: Binarisation
    ) -> None:
        """Take over a layer's weights.

        shift: first value of the learnt threshold per input channel (in,), with a minus sign;
               None for a plain sign.
        """
        super().__init__()
        self.how, self.layer = how, layer
        self.channels_axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self.shift = None if shift is None else nn.Parameter(shift.clone())
        self.weight_noise: NoiseAdaptation | None = None
        self.activation_noise: NoiseAdaptation | None = None
        if how.noise is not None:
            width, incoming = layer.weight[0].numel(), self.incoming
            self.weight_noise = NoiseAdaptation(width, how.noise, 1)
            self.activation_noise = NoiseAdaptation(incoming, how.noise, self.channels_axis)

    @property
    def incoming(self) -> int:
        """Input channels, or input features."""
        layer = self.layer
        return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in, h, w) or (B, ..., in) -> what the layer makes of it."""
        done = self.how.clock.done
        if self.shift is not None:
            inputs = inputs + self._of_channels(self.shift)
        given = self.how.estimator.activation_signs(inputs, done)
        weight = self.how.estimator.weight_signs(self.layer.weight, done)
        if self.training and self.weight_noise is not None and self.activation_noise is not None:
            share = self.weight_noise.options.share_at(done)
            given = given + share * self.activation_noise(inputs)
            flat = self.layer.weight.flatten(1)
            weight = weight + share * self.weight_noise(flat).view_as(weight)
        made = self._product(given, weight) * self._of_channels(self.scale)
        bias = self.layer.bias
        return made if bias is None else made + self._of_channels(bias)

    @property
    def scale(self) -> Tensor:
        """Scale of each output channel, (out,)."""
        return self.how.estimator.scale(self.layer.weight)

    def signs(self) -> Tensor:
        """Return the signs of the weights in the end, of the weight's shape."""
        with torch.no_grad():
            return self.how.estimator.weight_signs(self.layer.weight, 1.0)

    def _product(self, given: Tensor, weight: Tensor) -> Tensor:
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return functional.linear(given, weight)
        return functional.conv2d(
            given, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
        )

    def _of_channels(self, vector: Tensor) -> Tensor:
        return vector[:, None, None] if isinstance(self.layer, nn.Conv2d) else vector


def with_latent_layers(
    module: nn.Module, shifts: dict[str, Tensor | None], how: Binarisation
) -> nn.Module:
    """Return a copy of a network whose layers compute with signs.

    shifts: for the name of each such layer the first shifts of its inputs, or None.
    """
    found = copy.deepcopy(module)
    made: dict[nn.Module, nn.Module] = {}
    for name, shift in shifts.items():
        layer = found.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        made[layer] = LatentLayer(layer, shift, how)
    return put_layers(found, made)


def latent_layers(module: nn.Module) -> dict[str, LatentLayer]:
    """Return the layers of signs by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, LatentLayer)}
