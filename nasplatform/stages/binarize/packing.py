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


def sizes(module: nn.Module) -> dict[str, float]:
    """Return how many weights are bits, and the bytes of each part of a network's tensors.

    ``bits_per_weight`` is the mean over all tensors of weights, those of more than one axis.
    """
    binary = binary_layers(module)
    tensors = module.state_dict()
    bits = sum(layer.bits.numel() for layer in binary.values())
    beside = sum(
        tensor.numel() * tensor.element_size()
        for name, layer in binary.items()
        for key, tensor in layer.state_dict().items()
        if key != "bits"
    )
    whole = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    ones = sum(layer.binary_weights for layer in binary.values())
    floats = sum(t.numel() for t in tensors.values() if t.is_floating_point() and t.dim() > 1)
    return {
        "binary_weights": float(ones),
        "bits_per_weight": (ones + 32 * floats) / (ones + floats),
        "binary_bytes": float(bits),
        "scale_bytes": float(beside),
        "float_bytes": float(whole - bits - beside),
    }


def _packed(latent: LatentLayer) -> BinaryLayer:
    layer, shift = latent.layer, latent.shift
    made = _KINDS[type(layer)].like(layer, shift is not None, layer.bias is not None)
    return made.set_state(latent.signs(), latent.scale, _values(shift), _values(layer.bias))


def _values(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach()
