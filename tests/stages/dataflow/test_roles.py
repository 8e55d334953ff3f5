"""Which layers of the kinds of networks that people bring make feature maps."""

import network_kinds as kinds
import odd_networks as odd
import pytest
import torch
from torch import nn

from nasplatform.stages.dataflow import FeaturePoint, feature_points

SHAPE = (1, 8, 8)


def maps(module: nn.Module, after: bool = True) -> list[FeaturePoint]:
    return [point for point in feature_points(module, SHAPE, after) if not point.vector]


def names(module: nn.Module, after: bool = True) -> list[str]:
    return [point.name for point in maps(module, after)]


def readers(module: nn.Module) -> dict[str, set[str]]:
    known = {child: name for name, child in module.named_modules()}
    return {p.name: {known[r.layer] for r in p.readers} for p in feature_points(module, SHAPE)}


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_gates_are_no_feature_maps_however_they_are_written(linear, by_hand):
    module = kinds.gated(linear, by_hand)
    assert names(module) == ["2", "6", "10"]
    assert readers(module) == {"2": {"4"}, "6": {"8"}, "10": set()}
    assert not [point for point in feature_points(module, SHAPE) if point.vector]


def test_gates_of_places_are_no_feature_maps():
    module = nn.Sequential(*kinds.block(1, 4), kinds.SpatialAttention(), *kinds.block(4, 4))
    module.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)])
    assert names(module) == ["2", "6"]
    assert readers(module)["2"] == {"4"}


def test_gates_as_large_as_the_map_are_no_feature_maps():
    module = nn.Sequential(*kinds.block(1, 4), kinds.FullAttention(4), *kinds.block(4, 4))
    module.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)])
    assert names(module) == ["2", "6"]
    assert readers(module)["2"] == {"4"}


def test_an_activation_that_multiplies_by_a_sigmoid_is_no_gate():
    class Swish(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(x)

    module = nn.Sequential(nn.Conv2d(1, 4, 3), Swish(), nn.Conv2d(4, 4, 3), Swish())
    module.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)])
    assert names(module) == ["1", "3"]


def test_sigmoids_that_are_followed_by_layers_are_activations():
    assert names(kinds.Sigmoids()) == ["1", "4"]


def test_pooled_heads_and_logits_are_no_feature_maps():
    assert names(kinds.pooled_head()) == ["2", "5"]
    module = kinds.convolutional_classifier()
    assert names(module) == ["2", "5", "8"]
    assert readers(module)["8"] == {"9"}  # the classifier is the next convolution all the same


def test_a_last_stage_of_one_place_is_one():
    found = maps(kinds.to_one_place())
    assert [point.shape for point in found] == [(4, 4, 4), (4, 2, 2), (4, 1, 1), (4, 1, 1)]


def test_a_window_of_two_by_two_halves_even_where_it_leaves_one_place():
    found = maps(kinds.halved_by_pooling())
    assert [point.shape for point in found] == [(4, 8, 8), (5, 4, 4), (6, 2, 2), (7, 1, 1)]


def test_logits_that_are_read_again_are_logits():
    assert names(kinds.Refined()) == ["stem", "correct"]


def test_depthwise_and_grouped_layers_make_and_read_maps():
    module = kinds.depthwise()
    expected = {"2": {"3"}, "5": {"6"}, "8": {"9"}, "11": {"12"}, "14": set()}
    assert readers(module) == expected


def test_a_shared_activation_follows_each_call_and_a_sum_in_place_ends_the_map():
    found = maps(kinds.torchvision_like())
    assert [(point.name, point.call) for point in found] == [
        ("2", None),
        ("3.relu", 0),
        ("3.bn2", None),
    ]
    assert names(kinds.torchvision_like(), after=False) == ["0", "3.conv1", "3.conv2"]


def test_a_layer_called_twice_makes_two_maps():
    found = maps(kinds.Twice())
    assert [(point.name, point.call) for point in found] == [
        ("stem", None),
        ("shared", 0),
        ("shared", 1),
    ]


def test_layers_with_a_parametrised_weight_are_layers():
    module = kinds.weight_normed()
    assert names(module, after=False) == ["0", "2"]
    assert readers(module)["1"] == {"2"}


def test_hidden_linear_layers_are_vectors_and_the_last_makes_logits():
    points = feature_points(kinds.conventional(), SHAPE)
    assert [(point.name, point.shape) for point in points if point.vector] == [
        ("10", (12, 1, 1)),
        ("12", (8, 1, 1)),
    ]
    assert readers(kinds.conventional())["10"] == {"11"}
    assert readers(kinds.conventional())["12"] == {"13"}


def test_linear_layers_on_channels_last_maps():
    found = {point.name: point for point in maps(kinds.ChannelsLast())}
    assert {name: point.shape for name, point in found.items()} == {
        "stem": (4, 4, 4),
        "depthwise": (4, 4, 4),
        "act": (16, 4, 4),
        "narrow": (4, 4, 4),
    }
    found_readers = readers(kinds.ChannelsLast())
    assert found_readers["depthwise"] == {"wide"}
    assert found_readers["act"] == {"narrow"}


def test_queries_keys_and_values_are_no_feature_maps():
    module = kinds.Transformer()
    expected = ["patch"]
    for index in range(2):
        path = f"blocks.{index}"
        expected += [f"{path}.attention.proj", f"{path}.mlp.1", f"{path}.mlp.2"]
    assert names(module) == expected
    found = readers(module)
    assert found["blocks.0.mlp.1"] == {"blocks.0.mlp.2"}
    assert {"blocks.0.mlp.0", "blocks.1.attention.qkv"} <= found["blocks.0.attention.proj"]
    assert "blocks.1.attention.qkv" in found["blocks.0.mlp.2"]


def test_attention_and_encoder_layers_of_torch():
    module = kinds.Transformer(library=True)
    found = {point.name: point for point in maps(module)}
    assert set(found) == {
        "patch",
        *(f"blocks.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn", "linear2")),
        *(f"blocks.layers.{i}.linear1" for i in (0, 1)),
    } or set(found) >= {"blocks.layers.0.self_attn", "blocks.layers.0.linear2"}
    assert found["blocks.layers.0.self_attn"].layout.first == 1
    known = readers(module)
    assert "blocks.layers.0.linear1" in known["blocks.layers.0.self_attn"]
    assert "blocks.layers.1.self_attn" in known["blocks.layers.0.linear2"]


def test_modes_of_all_parts_and_hooks_are_as_before():
    module = kinds.frozen(nn.Sequential).train()
    module[1].eval()
    feature_points(module, SHAPE)
    assert module.training
    assert not module[1].training
    assert all(not child._forward_hooks for child in module.modules())


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (odd.EfficientChannelAttention(), {"5": {"7"}}),
        (odd.GatherExcite(), {"5": {"7"}}),
        (odd.GlobalContext(), {"5": {"7"}}),
        (odd.CoordinateAttention(), {"5": {"7"}}),
        *((odd.ByHand(how), {"5": {"7"}}) for how in ("tanh", "hardtanh", "clamp", "relu6")),
        (odd.FiLM(), {"5": {"6.conv"}, "6.conv": {"7"}}),
        (odd.GatedHalves(), {"5": {"6.conv"}, "6.conv": {"7"}}),
        (odd.SimpleGate(), {"5": {"6.wide", "7"}, "6.wide": {"6.narrow"}, "6.narrow": {"7"}}),
        (
            odd.SelectiveKernel(),
            {"5": {"6.small", "6.large"}, "6.small": {"7"}, "6.large": {"7"}},
        ),
        (
            odd.PooledBranch(),
            {"5": {"6.point", "6.wide"}, "6.point": {"6.out"}, "6.wide": {"6.out"}, "6.out": {"7"}},
        ),
    ],
)
def test_gates_and_contexts_of_many_papers_are_no_feature_maps(inner, expected):
    found = readers(odd.around(inner))
    assert found.pop("2") == {"3"}
    assert found.pop("7") == set()
    assert found == expected


@pytest.mark.parametrize("matrices", [False, True])
def test_what_follows_a_pooling_by_attention_is_a_head(matrices):
    assert names(odd.AttentionPooled(matrices)) == ["trunk.2", "trunk.5"]
    assert names(odd.LearnedQuery()) == ["trunk.2", "trunk.5"]


@pytest.mark.parametrize("fused", [False, True])
def test_class_token_that_asks_alone_makes_no_map(fused):
    assert names(odd.ClassAttention(fused)) == ["patch", "mlp.1", "mlp.2"]


def test_linear_layer_called_twice_makes_two_vectors():
    points = feature_points(odd.LinearTwice(), SHAPE)
    assert [(point.name, point.call, point.vector) for point in points] == [
        ("first", None, True),
        ("shared", 0, True),
        ("shared", 1, True),
    ]
    assert readers(odd.LinearTwice())["first"] == {"shared"}
