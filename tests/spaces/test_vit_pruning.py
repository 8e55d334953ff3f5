"""Transformers of the space lose heads, widths of queries and values, units and tokens' width."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_kinds import CLASSES, EVERY, SHAPE

from nasplatform.models.costs import count_parameters
from nasplatform.models.edits import Edit
from nasplatform.models.network import Network as Saved
from nasplatform.pruning.equality import check_equal, masked
from nasplatform.pruning.graph import cost
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph, stirred
from nasplatform.runtimes.onnx_export import export_onnx
from nasplatform.spaces import get_space
from nasplatform.spaces.vit.network import Network
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded

PINNED = {"performer": {"query", "key"}}
"""Layers that stay, by the end of their names; nothing else does."""


def some(graph, share, seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    count = max(1, int(share * len(graph.removable)))
    return graph.without_emptying(rng.permutation(graph.removable)[:count])


def cut(module, shape, share, seed):
    """Cut at random; what is left computes and costs what masking and counting say."""
    graph = channel_graph(module, shape)
    removed = some(graph, share, seed)
    kept = json.loads(json.dumps(kept_channels(graph, removed)))
    small = remove(copy.deepcopy(module), kept)
    images = torch.randn((3, *shape), generator=torch.Generator().manual_seed(1))
    assert check_equal(small, masked(module, graph, removed), images) < 1e-5
    traced, left = cost(graph, np.zeros(0, np.int64)), cost(graph, removed)
    assert count_macs(module, shape) - count_macs(small, shape) == traced.macs - left.macs
    saved = count_parameters(module, shape) - count_parameters(small, shape)
    assert saved == traced.params - left.params > 0
    return graph, small, kept


@pytest.mark.parametrize("name", EVERY)
def test_every_kind_of_transformer_is_cut_throughout(name):
    with seeded(0):
        module = stirred(Network(EVERY[name], SHAPE, CLASSES))
    graph, _, _ = cut(module, SHAPE, 0.4, 0)
    pinned = {layer.rpartition(".")[2] for pin in graph.pins for layer in pin.layers}
    assert pinned == PINNED.get(name, set())
    made = {x.name for x in graph.producers}
    for layer, child in module.named_modules():
        if layer.rpartition(".")[2] in {"query", "key", "value", "widen"} - pinned:
            assert layer in made or any(
                f"{layer}.{inner}" in made for inner, _ in child.named_children()
            )


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.2, 0.5, 0.9]))
def test_whatever_is_drawn_of_the_sub_space_is_cut(seed, share):
    space = get_space("vit", subspace="digits")
    architecture = space.sample(1, np.random.Generator(np.random.PCG64(seed)))[0]
    with seeded(seed % 1000):
        module = stirred(space.build(architecture))
    graph, _, _ = cut(module, space.options.input_shape, share, seed)
    assert graph.pins == ()


@pytest.mark.parametrize("name", ["local", "swin", "cmt", "autoformer"])
def test_a_network_is_cut_again(name):
    with seeded(0):
        module = stirred(Network(EVERY[name], SHAPE, CLASSES))
    _, small, _ = cut(module, SHAPE, 0.3, 0)
    cut(small.eval(), SHAPE, 0.4, 1)


def test_a_cut_transformer_is_saved_loaded_and_exported(tmp_path):
    space = get_space("vit", subspace="digits")
    whole = Saved.of(
        space, space.parse("class+tokens1/conv2s2+w24+learned:h4w32-mlp2,h2w16-reduction2-mlpconv2")
    )
    _, small, kept = cut(whole.module, (1, 8, 8), 0.5, 3)
    network = whole.edited(small.eval(), Edit("channels-removed", 1, kept))
    network.save(tmp_path / "small")
    images = torch.randn(64, 1, 8, 8)
    again = Saved.load(tmp_path / "small").module
    torch.testing.assert_close(again(images), small(images))
    assert export_onnx(network.for_task(tiny_task()), tmp_path / "small.onnx") < 1e-5
