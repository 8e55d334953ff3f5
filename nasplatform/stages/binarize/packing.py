"""From latent weights to bits: what is left of a training."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from nasplatform.models.binary import (
    LAYERS,
    BinaryLayer,
    binary_layers,
    describe_layers,
    put_layers,
)
from nasplatform.models.edits import Edit
from nasplatform.models.network import Network
from nasplatform.stages.binarize.layers import LatentLayer, latent_layers

_KINDS = {layer.replaces: layer for layer in LAYERS.values()}


def packed(network: Network, latent: nn.Module) -> Network:
    """Return a network with the layers of bits that a training came to, to equal logits.

    network: with float layers in their places; latent: the module that was trained.
    """
    module = copy.deepcopy(latent)
    made = {name: _packed(layer) for name, layer in latent_layers(module).items()}
    put_layers(module, {module.get_submodule(name): layer for name, layer in made.items()})
    return network.edited(module.eval(), Edit("binarized", 1, describe_layers(made)))


def weight_bits(module: nn.Module) -> dict[str, float]:
    """Return how many weights are bits, and the mean bits of a weight.

    Weights are tensors of more than one axis; their floats have 32 bits.
    """
    ones = sum(layer.binary_weights for layer in binary_layers(module).values())
    state = module.state_dict().values()
    floats = sum(t.numel() for t in state if t.is_floating_point() and t.dim() > 1)
    mean = (ones + 32 * floats) / (ones + floats)
    return {"binary_weights": float(ones), "bits_per_weight": mean}


def _packed(latent: LatentLayer) -> BinaryLayer:
    layer, shift = latent.layer, latent.shift
    made = _KINDS[type(layer)].like(layer, shift is not None, layer.bias is not None)
    return made.set_state(latent.signs(), latent.scale, _values(shift), _values(layer.bias))


def _values(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach()
