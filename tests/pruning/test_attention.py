"""Heads, and the widths of queries, keys and values, are cut for good."""

import copy
import json

import attention_parts
import numpy as np
import pytest
import torch
from attention_parts import HEADS, WIDTH, Layer
from network_parts import SHAPE, Encoder
from torch import nn

from nasplatform.errors import StageError
from nasplatform.models.costs import count_parameters
from nasplatform.pruning import importance
from nasplatform.pruning.equality import check_equal, masked
from nasplatform.pruning.graph import cost
from nasplatform.pruning.selection import ranked
from nasplatform.pruning.separation import SeparateAttention, separate
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph, stirred
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded

Q, K, V = (f"attention.{name}" for name in "qkv")


def built(kind: str) -> nn.Module:
    with seeded(0):
        return stirred(Layer(getattr(attention_parts, kind)()))


def units(graph, *layers: str) -> list[np.ndarray]:
    """The classes of groups that exactly these layers make."""
    found = []
    for number in np.unique(graph.coupling_classes):
        members = graph.removable[graph.coupling_classes == number]
        makers = {x.name for x in graph.producers if members[0] in graph.units(x.outputs)[1]}
        if makers == set(layers):
            found.append(members)
    return found


def cut(module, graph, removed, shape=SHAPE):
    """Cut, and compare with the masked network and with what the graph counts."""
    kept = json.loads(json.dumps(kept_channels(graph, removed)))
    small = remove(copy.deepcopy(module), kept)
    images = torch.randn((4, *shape), generator=torch.Generator().manual_seed(1))
    assert check_equal(small, masked(module, graph, removed), images) < 1e-5
    assert small(images).std(0).min() > 1e-4  # what is compared depends on the images
    traced, left = cost(graph, np.zeros(0, np.int64)), cost(graph, removed)
    assert count_macs(module, shape) - count_macs(small, shape) == traced.macs - left.macs > 0
    saved = count_parameters(module, shape) - count_parameters(small, shape)
    assert saved == traced.params - left.params > 0
    return small


@pytest.mark.parametrize("kind", ["Attention", "ByProducts", "ByEinsum", "NormalisedHeads"])
def test_heads_and_the_widths_of_queries_and_of_values_go_each_by_themselves(kind):
    module = built(kind)
    graph = channel_graph(module, SHAPE)
    assert graph.pins == ()
    (heads,), (queries,), (values,) = units(graph, Q, K, V), units(graph, Q, K), units(graph, V)
    assert (len(heads), len(queries), len(values)) == (HEADS, WIDTH // HEADS, WIDTH // HEADS)
    small = cut(module, graph, np.concatenate([heads[:1], queries[:2], values[2:3]]))
    attention = small.attention
    assert attention.num_heads == 2
    assert [attention.q.out_features, attention.k.out_features] == [4, 4]
    assert [attention.v.out_features, attention.out.in_features] == [6, 6]
    assert attention.q.weight.equal(module.attention.q.weight[[6, 7, 10, 11]])
    assert attention.out.weight.equal(module.attention.out.weight[:, [4, 5, 7, 8, 9, 11]])


@pytest.mark.parametrize("kind", ["OfHeadWidth", "Temperature", "Fused", "OneKey"])
def test_what_belongs_to_a_head_goes_with_it(kind):
    module = built(kind)
    graph = channel_graph(module, SHAPE)
    assert graph.pins == ()
    rng = np.random.Generator(np.random.PCG64(0))
    removed = graph.without_emptying(rng.permutation(graph.removable)[: len(graph.removable) // 2])
    attention = cut(module, graph, removed).attention
    assert attention.num_heads < HEADS
    if kind == "Temperature":
        assert attention.factor.shape == (attention.num_heads, 1, 1)
        assert attention.table.weight.shape == (31, attention.num_heads)


def test_the_mean_of_silent_heads_is_that_of_none():
    """Heads whose values and projections are zero are removed without any difference."""
    module = built("Attention")
    graph = channel_graph(module, SHAPE)
    (heads,) = units(graph, Q, K, V)
    with torch.no_grad():
        module.attention.v.weight[:4] = module.attention.v.bias[:4] = 0
    small = remove(copy.deepcopy(module), kept_channels(graph, heads[:1]))
    images = torch.randn(4, *SHAPE)
    torch.testing.assert_close(small(images), module(images), rtol=1e-5, atol=1e-5)


def test_never_all_heads_nor_all_places():
    graph = channel_graph(built("Attention"), SHAPE)
    left = graph.without_emptying(graph.removable)
    for groups in (*units(graph, Q, K, V), *units(graph, Q, K), *units(graph, V)):
        assert np.isin(groups, left).sum() == len(groups) - 1


def test_a_scale_that_follows_the_width_pins_it_and_heads_are_cut():
    module = built("UnscaledWidth")
    graph = channel_graph(module, SHAPE)
    (pin,) = graph.pins
    assert set(pin.layers) == {Q, K}
    (heads,) = units(graph, Q, K, V)
    assert cut(module, graph, heads[1:]).attention.q.out_features == WIDTH // HEADS


def test_heads_in_the_code_are_pinned_and_widths_are_cut():
    module = built("HeadsInCode")
    graph = channel_graph(module, SHAPE)
    assert "unflatten" in graph.pins[0].reason
    assert units(graph, Q, K, V) == []
    cut(module, graph, np.concatenate([*units(graph, Q, K), *units(graph, V)])[[0, 1, 5]])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 5}, {"bias": False}])
def test_separated_attention_is_that_of_torch(batch_first, options):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options).eval()
    for weight in plain.parameters():
        nn.init.normal_(weight)
    given = [torch.randn(3, 5, 8)]
    given += [torch.randn(3, 7, options.get(width, 8)) for width in ("kdim", "vdim")]
    if not batch_first:
        given = [one.transpose(0, 1) for one in given]
    ours = SeparateAttention(plain)
    hidden = (torch.rand(3, 7) > 0.6) & (torch.arange(7) > 0)
    asked = (
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"attn_mask": torch.rand(5, 7) > 0.7, "key_padding_mask": hidden},
        {"attn_mask": torch.randn(6, 5, 7), "need_weights": False},
    )
    for some in asked:
        for found, expected in zip(ours(*given, **some), plain(*given, **some), strict=True):
            torch.testing.assert_close(found, expected)
    one = [each[0] if batch_first else each[:, 0] for each in given]
    torch.testing.assert_close(ours(*one), plain(*one))


@pytest.mark.parametrize("make", [lambda: built("of_torch"), lambda: stirred(Encoder())])
def test_attention_of_torch_is_separated_and_cut(make):
    module = make()
    (name,) = (n for n, c in module.named_modules() if isinstance(c, nn.MultiheadAttention))
    apart = separate(copy.deepcopy(module), {"layers": [name]}).eval()
    images = torch.randn(4, *SHAPE)
    torch.testing.assert_close(apart(images), module(images))
    graph = channel_graph(apart, SHAPE)
    assert graph.pins == ()
    assert len(units(graph, *(f"{name}.{layer}" for layer in ("query", "key", "value")))) == 1
    rng = np.random.Generator(np.random.PCG64(0))
    cut(apart, graph, graph.without_emptying(rng.permutation(graph.removable)[::2]))


def test_what_is_no_attention_is_not_separated():
    with pytest.raises(StageError, match="layer 'up' is no attention"):
        separate(built("Attention"), {"layers": ["up"]})


@pytest.mark.parametrize("number", ["5", 2.0, None])
def test_numbers_of_a_damaged_description_are_refused(number):
    with pytest.raises(StageError, match="'attention' cannot be cut as described"):
        remove(built("Attention"), {"attention": {"numbers": {"num_heads": number}}})


@pytest.mark.parametrize("criterion", ["l1", "fpgm", "bn_scale", "taylor", "random"])
def test_every_importance_ranks_heads_and_widths(criterion):
    with seeded(0):
        module = Layer(attention_parts.Attention(), colours=1).eval()
    task = tiny_task()
    graph = channel_graph(module, task.input_shape)
    if criterion == "taylor":
        each = importance.taylor(module, graph, task)
    elif criterion == "random":
        each = importance.random(graph, 0)
    else:
        each = importance.OF_WEIGHTS[criterion](module, graph)
    scores = importance.group_scores(graph, each)
    assert scores.shape == graph.removable.shape
    (heads,) = units(graph, Q, K, V)
    rows = torch.cat([each[name].reshape(HEADS, -1) for name in (Q, K, V)], 1).double().mean(1)
    assert scores[np.isin(graph.removable, heads)] == pytest.approx(rows.numpy())
    steps = ranked(graph, scores, "uniform")
    assert set(np.concatenate([step.groups for step in steps])) & set(heads.tolist())
