"""What people's networks are made of: cut throughout, or pinned by name and cut beside that."""

import copy
import json

import numpy as np
import pytest
import torch
from network_parts import SHAPE
from networks import PINNED, PRUNED
from torch import nn

from nasplatform.models.costs import count_parameters
from nasplatform.pruning.equality import check_equal, masked
from nasplatform.pruning.graph import ChannelGraph, cost
from nasplatform.pruning.selection import ranked
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph, stirred
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded


def built(make, seed: int = 0) -> nn.Module:
    with seeded(seed):
        return stirred(make())


def images() -> torch.Tensor:
    return torch.randn((5, *SHAPE), generator=torch.Generator().manual_seed(1))


def some(graph: ChannelGraph, share: float, seed: int):
    scores = np.random.Generator(np.random.PCG64(seed)).random(len(graph.removable))
    steps = ranked(graph, scores, "uniform")
    groups = np.concatenate([step.groups for step in steps])
    return groups[: max(1, int(share * len(groups)))]


def cut(module: nn.Module, make, share: float, seed: int) -> nn.Module:
    """Cut, compare with the masked network, build anew from the description and compare again."""
    graph = channel_graph(module, SHAPE)
    removed = some(graph, share, seed)
    kept = json.loads(json.dumps(kept_channels(graph, removed)))
    small = remove(copy.deepcopy(module), kept)
    assert check_equal(small, masked(module, graph, removed), images()) < 1e-5
    again = remove(built(make, 1), kept)
    again.load_state_dict({name: value.clone() for name, value in small.state_dict().items()})
    torch.testing.assert_close(predict(again, images()), predict(small, images()))
    traced, left = cost(graph, np.zeros(0, np.int64)), cost(graph, removed)
    saved = count_parameters(module, SHAPE) - count_parameters(small, SHAPE)
    assert saved == traced.params - left.params > 0
    return small


def hidden(module: nn.Module) -> dict[str, int]:
    """The outputs of each convolution and linear layer but the classifier."""
    layers = {
        name: child.weight.shape[int(isinstance(child, nn.ConvTranspose2d))]
        for name, child in module.named_modules()
        if isinstance(child, (nn.modules.conv._ConvNd, nn.Linear))
    }
    last = next((name for name in ("head", "head.2") if name in layers), list(layers)[-1])
    places = {"more"}  # a layer that mixes places, not channels
    return {name: width for name, width in layers.items() if name not in {last, *places}}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", PRUNED)
def test_every_hidden_layer_is_cut(name, seed):
    module = built(PRUNED[name])
    small = cut(module, PRUNED[name], 0.5, seed)
    before, after = hidden(module), hidden(small)
    assert {layer for layer, width in after.items() if width == before[layer] > 1} == set()
    assert channel_graph(module, SHAPE).pins == ()
    assert count_macs(small, SHAPE) < count_macs(module, SHAPE)


@pytest.mark.parametrize("name", PINNED)
def test_what_cannot_be_cut_is_named_and_the_rest_is_cut(name):
    make, reason, layers = PINNED[name]
    module = built(make)
    graph = channel_graph(module, SHAPE)
    (pin,) = [pin for pin in graph.pins if reason in pin.reason]
    assert layers <= set(pin.layers)
    small = cut(module, make, 0.5, 0)
    assert all(hidden(small)[layer] == hidden(module)[layer] for layer in layers)


def test_shared_parameters_stay_shared():
    module = built(PRUNED["tied-normalisations"])
    small = cut(module, PRUNED["tied-normalisations"], 0.5, 0)
    assert small.first.weight is small.second.weight
    assert small.first.bias is small.second.bias
    assert small.first.weight.shape == small.second.running_mean.shape
    assert len(small.first.weight) < 12
    module = built(PRUNED["tied-convolutions"])
    small = cut(module, PRUNED["tied-convolutions"], 0.5, 0)
    assert small.b.weight is small.c.weight


def test_inverted_bottlenecks_lose_hidden_and_residual_width():
    module = built(PRUNED["mobile"])
    graph = channel_graph(module, SHAPE)
    layers = graph.layers
    assert np.array_equal(layers["3.layers.0"].outputs, layers["3.layers.3"].outputs)
    assert np.array_equal(layers["0"].outputs, layers["3.layers.6"].outputs)
    assert len(graph.removable) == 32 + 8 + 32 + 12 + 48
    small = cut(module, PRUNED["mobile"], 0.5, 0)
    depthwise = small.get_submodule("3.layers.3")
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels < 32
