"""Multiply-adds and parameters of the whole zoo, against textbook formulas layer by layer."""

import pytest
import torch
from torch import nn
from zoo_members import MEMBERS, SHAPE
from zoo_stages import every_member

from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.training.flops import count_macs

BY_HAND = {
    # what networks compute beside their layers, for one image
    "edges_of_image": 3 * 9 * 256,  # a fixed window of 3 x 3 for each colour
    "blurred": 8 * 9 * 64 + 12 * 9 * 16,
    "blurred_by_number": 8 * 9 * 64,
    "blurred_expanded": 8 * 9 * 64,
    "dense_fixed": 8 * 8 * 64,
    "bilinear_pooling": 6 * 6 * 64,
    "unit_length": 12 * 4,
    "transposed_ties": 6 * 12,
    "made_by_another_layer": 4 * 72 + 8 * 9 * 64,  # the mixture, and one filter of 8 channels
    "spectral_normed": 8 * 27 + 8 + 12 * 72 + 12 + 10 * 108 + 10,  # W v, and its product with u
    "spectral_normed_by_hook": 8 * 27 + 8 + 12 * 72 + 12,
    "non_local": 2 * 6 * 16 * 16,  # keys with queries, and values with shares, of 16 places
    "vision_transformer": 2 * 2 * 17 * 17 * 12,
    "linear_attention": 2 * 16 * 8 * 8,
    "torch_encoder": 2 * (17 * 12 * 36 + 17 * 12 * 12 + 2 * 17 * 17 * 12),  # queries, keys, values;
    "multihead": 17 * 12 * 36
    + 17 * 12 * 12
    + 2 * 17 * 17 * 12,  # what they become; the two products
    "attention_pooling": 8 * 8 + 64 * 8 * 16 + 8 * 8 + 2 * 64 * 8,
}
UNUSED = {"unused_layers": 8 * 8 * 9 + 8, "auxiliary_head": 12 * 4 + 4}
"""Parameters that no image meets."""
FUNCTIONAL = ("standardised_with_gain", "scaled_weights", "quantised_weights", "functional_norm")


def layer_macs(layer: nn.Module, given: tuple, made) -> int:
    """The multiply-adds of a layer for one image, as a textbook has them."""
    x = given[0] if given else made
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return x[0].numel() * layer.out_channels // layer.groups * layer.weight[0, 0].numel()
    if isinstance(layer, nn.modules.conv._ConvNd):
        return made[0].numel() * layer.in_channels // layer.groups * layer.weight[0, 0].numel()
    if isinstance(layer, nn.Linear):
        return made.numel() // len(x) * layer.in_features if made.dim() > 1 else made.numel()
    if isinstance(layer, nn.RNNBase):
        weights = [w.numel() for name, w in layer.named_parameters() if "weight" in name]
        return x.shape[1] * sum(weights)
    if isinstance(layer, nn.RNNCellBase):
        return layer.weight_ih.numel() + layer.weight_hh.numel()
    return 0


TAKEN = [member for member in every_member() if not member.refused]


@pytest.mark.parametrize("name", [member.name for member in TAKEN])
def test_costs_are_those_of_the_textbook(name):
    module = Network.from_function(MEMBERS[name].path, {}).module
    total = BY_HAND.get(name, 0)
    inside_attention = set()
    for child in module.modules():
        if isinstance(child, nn.MultiheadAttention):  # which hands its weights to a function
            inside_attention |= set(child.modules()) - {child}

    def count(layer, given, made):
        nonlocal total
        if layer not in inside_attention:
            total += layer_macs(layer, given, made)

    for child in module.modules():
        child.register_forward_hook(count)
    with torch.no_grad():
        module(torch.randn(1, *SHAPE))
    expected = total
    for child in module.modules():
        child._forward_hooks.clear()
    assert count_macs(module, SHAPE) == expected
    parameters = sum(parameter.numel() for parameter in module.parameters())
    assert count_parameters(module, SHAPE) == parameters - UNUSED.get(name, 0)
