"""The space of visual transformers: sub-spaces, text, exact costs, what is no member."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nasplatform.errors import ArchitectureError, ConfigError
from nasplatform.spaces import Space, get_space
from nasplatform.spaces.vit.architecture import (
    Attention,
    Entry,
    FeedForward,
    Inner,
    Layer,
    Stage,
    VisionTransformer,
)
from nasplatform.spaces.vit.choices import hundredths
from nasplatform.spaces.vit.costs import count
from nasplatform.spaces.vit.network import Network
from nasplatform.spaces.vit.numbers import Numbers
from nasplatform.spaces.vit.subspaces import SUBSPACES
from nasplatform.spaces.vit.text import format_text, parse_text

DATA = Path(os.environ.get("NASPLATFORM_DATA", "missing"))
TABLE = DATA / "vit_autoformer_imagenet.parquet"
LAYER = Layer(Attention(2, 16), FeedForward(350))
# The first rows: embedding, heads and twice the ratio of each layer, parameters, FLOPs.
FIRST = {
    "tiny": (192, "34334434434344", "87778788787777", 6_776_776, 1_573_082_940),
    "small": (448, "6557677756575", "7678777778686", 28_262_984, 5_952_001_594),
}


@pytest.fixture(params=sorted(SUBSPACES))
def space(request: pytest.FixtureRequest) -> Space[Any]:
    return get_space("vit", subspace=request.param)


def some(space: Space[Any], n: int) -> Any:
    return space.sample(n, np.random.default_rng(0))


def test_samples_are_members_and_counted_as_they_are_built(space: Any) -> None:
    """Parameters and multiply-adds to the integer, of random members and of the largest."""
    architectures = [*some(space, 3), largest(space)]
    population = space.population(architectures)
    assert space.contains_codes(population.codes).all()
    costs = space.costs(population)
    graphs = space.graphs(population)
    for at, one in enumerate(architectures):
        assert space.parse(space.format(one)) == one
        with torch.device("meta"):
            network = space.build(one).eval()
            images = torch.empty(1, *space.options.input_shape)
        assert costs.params[at] == sum(p.numel() for p in network.parameters())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
        assert 2 * costs.macs[at] == counter.get_total_flops()
        assert graphs.total_flops[at] == counter.get_total_flops()


def largest(space: Any) -> VisionTransformer:
    row = [len(decision.choices) for decision in space.subspace.decisions]
    made: VisionTransformer = space.subspace.architecture(row)
    return made


def test_costs_of_many_are_those_of_each(space: Any) -> None:
    population = some(space, 50)
    costs = space.costs(population)
    for at in (0, 13, 49):
        alone = space.costs(population[at : at + 1])
        one = count(
            Numbers.of_one(population[at]), space.options.input_shape, space.options.classes
        )
        for found in (alone, one):
            assert found.params[0] == costs.params[at]
            assert found.macs[0] == costs.macs[at]
            assert found.attention_macs.sum() == costs.attention_macs[at].sum()


@pytest.mark.parametrize("size", FIRST)
def test_the_first_row_of_the_table_of_autoformer(size: str) -> None:
    width, heads, halves, params, flops = FIRST[size]
    ratios = [int(half) / 2 for half in halves]
    row = {"embed_dim": [width], "num_heads": [[*map(int, heads)]], "mlp_ratio": [ratios]}
    found = counted_as_published(pd.DataFrame(row), size)
    assert [one.tolist() for one in found] == [[params], [flops]]


@pytest.mark.skipif(
    not TABLE.exists(), reason=f"NASPLATFORM_DATA names no folder with {TABLE.name}"
)
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_table_of_autoformer_to_the_integer(size: str) -> None:
    """Parameters as counted here; FLOPs as AutoFormer's authors count them."""
    rows = pd.read_parquet(TABLE).query("space == @size")
    params, flops = counted_as_published(rows, size)
    np.testing.assert_array_equal(params, np.round(rows["params_m"] * 1e6).astype(np.int64))
    np.testing.assert_array_equal(flops, np.round(rows["flops_m"] * 1e6).astype(np.int64))


def counted_as_published(rows: pd.DataFrame, size: str) -> tuple[Any, Any]:
    space: Any = get_space("vit", subspace=f"autoformer-{size}")
    population = space.population([subnet(row) for row in rows.itertuples()])
    costs = space.costs(population)
    flops = [authors_flops(one) for one in population]
    return costs.params, np.array(flops).astype(np.int64)


def subnet(row: Any) -> VisionTransformer:
    layers = tuple(
        Layer(Attention(int(heads), 64 * int(heads)), FeedForward(hundredths(ratio)))
        for heads, ratio in zip(row.num_heads, row.mlp_ratio, strict=True)
    )
    stage = Stage(int(row.embed_dim), layers, positions="learned", relative="keys-values")
    return VisionTransformer((stage,), tokens=1)


def authors_flops(one: VisionTransformer) -> float:
    """Count as AutoFormer's code does: the class token twice, and half of each addition."""
    (stage,) = one.stages
    e, n = stage.width, 196 + 2
    total = 196 * e * 768 + e + 197 * e / 2 + 197 * e * 1000
    for layer in stage.layers:
        q, hidden = layer.attention.width, layer.feed_forward.hidden(e)
        total += n * (4 * e * q + 2 * e * hidden + 2 * e) + 2 * n * n * q
        total += 14 * n * n + n * n / 2 + 14 * n * n + n * q / 2
    return total


def test_a_pooling_pyramid_chooses_heads_and_their_width_for_all_stages() -> None:
    """Parameters of one of ViT-Bench-101's networks, summed by hand."""
    space: Any = get_space("vit", subspace="pit-tiny", classes=100)
    params = {"heads": "2-4-8", "head_width": 24, "ratio": 6.0}
    depths = {"stage1_depth": 2, "stage2_depth": 8, "stage3_depth": 4}
    one = space.from_params(params | depths)
    assert space.to_params(one) == params | depths
    widths = [stage.width for stage in one.stages]
    assert widths == [48, 96, 192]
    layers = sum(d * (16 * w * w + 13 * w + 2 * w) for d, w in zip((2, 8, 4), widths, strict=True))
    entries = (3 * 16**2 + 1) * 48 + (27**2 + 1) * 48 + 10 * (96 + 192)
    tokens = 49 * 96 + 97 * 192
    assert space.costs([one]).params.tolist() == [layers + entries + tokens + 2 * 192 + 193 * 100]
    with pytest.raises(ArchitectureError, match=r"'heads' is \(8, 8, 2\), expected 2-2-2, 2-2-4"):
        space.parse(
            "class+tokens1-first/conv16s8+w192+learned-map:h8w192-mlp6/pooling3s2p1+w192:4*h8w192-mlp6/pooling3s2p1+w48:2*h2w48-mlp6"
        )


@pytest.mark.skipif(
    not (DATA / "vit_autoprox.parquet").exists(), reason="NASPLATFORM_DATA names no such folder"
)
def test_the_pooling_pyramids_of_vit_bench_101_are_members() -> None:
    space: Any = get_space("vit", subspace="pit-tiny", classes=100)
    rows = pd.read_parquet(DATA / "vit_autoprox.parquet").query("space == 'pit'")
    for text in rows["arch"]:
        known = json.loads(text)
        one = space.from_params(
            {
                "heads": "-".join(map(str, known["num_heads"])),
                "head_width": known["base_dim"],
                "ratio": float(known["mlp_ratio"]),
                **{f"stage{at}_depth": depth for at, depth in enumerate(known["depth"], 1)},
            }
        )
        assert [len(stage.layers) for stage in one.stages] == known["depth"]


def test_graphs_lead_back(space: Any) -> None:
    """Also where a stage takes two kinds of attention in turn."""
    population = some(space, 100)
    np.testing.assert_array_equal(
        space.from_graphs(space.graphs(population)).codes, population.codes
    )
    with pytest.raises(ArchitectureError, match="expected 'vit' with the same options"):
        space.from_graphs(get_space("macro-chain").graphs([]))


def test_published_transformers_are_members() -> None:
    """AutoFormer-S and PVT-Ti; AutoFormer-T has ratios of 3, which its space has not."""
    heads, ratios = "6657555667767", "6767888888878"
    layers = tuple(
        Layer(Attention(int(h), 64 * int(h)), FeedForward(50 * int(r)))
        for h, r in zip(heads, ratios, strict=True)
    )
    stage = Stage(384, layers, positions="learned", relative="keys-values")
    small = VisionTransformer((stage,), tokens=1)
    assert SUBSPACES["autoformer-small"].row(small)
    with pytest.raises(ArchitectureError, match="'width' is 384, expected 192, 216, 240"):
        SUBSPACES["autoformer-tiny"].row(small)
    text = "/".join(
        [
            "class+tokens1",
            "conv4s4n+w64+learned:2*h1w64-reduction8-mlp8",
            "conv2s2n+w128+learned:2*h2w128-reduction4-mlp8",
            "conv2s2n+w320+learned:2*h5w320-reduction2-mlp4",
            "conv2s2n+w512+learned:2*h8w512-mlp4",
        ]
    )
    space: Any = get_space("vit", subspace="pyramid")
    assert space.costs([space.parse(text)]).params[0] == 13_229_288


EVERYTHING = [
    VisionTransformer((Stage(16, (LAYER,)),), tokens=2, tokens_from="first", readout="class"),
    VisionTransformer(
        (Stage(16, (LAYER,) * 2, positions="sinusoid"),), norm="post", qkv_bias=False, drop_path=10
    ),
    VisionTransformer(
        (
            Stage(16, (Layer(Attention(2, 16, "window", 7, True)),), relative="bias"),
            Stage(
                32,
                (
                    Layer(Attention(1, 8, "depthwise-reduction", reduction=2), perception=True),
                    Layer(Attention(1, 8, "projection", reduction=2, kernel=3)),
                    Layer(Attention(4, 8, local=2, kernel=17), FeedForward(377, "mlp-conv")),
                ),
                Entry("merging", 2, 2),
            ),
        ),
        stem=8,
        head=64,
        layer_scale=True,
    ),
    VisionTransformer((Stage(16, (LAYER,), Entry("words", 7, 16, 3), inner=Inner(8, 2)),)),
    VisionTransformer((Stage(16, (LAYER,), Entry("performer", 7, 16, 2, True)),)),
]


@pytest.mark.parametrize("one", EVERYTHING)
def test_text_of_any_transformer(one: VisionTransformer) -> None:
    """Members of no sub-space too; equal layers are counted."""
    assert parse_text(format_text(one)) == one
    assert "\n" not in format_text(one)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("average", "is no transformer"),
        ("conv2s2+w16:h1w8-mlp1", "before the first '/'"),
        ("average/oops+w16:h1w8-mlp1", "stage 1 starts with 'oops'"),
        ("average/conv2s2:h1w8-mlp1", "stage 1 has no width"),
        ("average/conv2s2+w16+w16:h1w8-mlp1", "'w16' is there twice"),
        ("average/conv2s2+w16:h1w8-mlp1,h1", "stage 1, layers 2 is 'h1'"),
        ("average/conv2s2+w16:h3w24-mlp1", "'layer1_heads' is 3, expected 1, 2, 4"),
        ("average/conv2s2+w16:h1w16-mlp1", "'head_width' is 16, expected 8"),
        ("average/conv2s2+w16:5*h1w8-mlp1", "'depth' is 5, expected 1, 2, 3, 4"),
        ("average/conv4s4+w16:h1w8-mlp1", "'entry' is"),
        ("average/conv2s2+w16:h1w8-window2-mlp1", "'layer1_attention' is 'window'"),
        ("average+stem8/conv2s2+w16:h1w8-mlp1", "stem is 8, expected 0"),
        ("average/conv2s2+w16:h1w8-mlp1/conv2s2+w16:h1w8-mlp1", "2 stage"),
    ],
)
def test_what_is_no_member_is_told(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        get_space("vit", subspace="digits").parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subspace": "pyramid", "input_shape": (3, 64, 64)}, "'pyramid'.*window is 7, larger"),
        ({"subspace": "autoformer-tiny", "input_shape": (3, 8, 8)}, "smaller than a patch"),
        ({"subspace": "digits", "input_shape": (1, 2, 2)}, "reduction is 2, larger"),
        ({"subspace": "nothing"}, "subspace"),
    ],
)
def test_images_that_a_sub_space_is_not_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_space("vit", **options)


def layers_of(space: Space[Any]) -> Iterator[int]:
    return (one.depth for one in some(space, 2000))


def test_the_prior_is_uniform_over_each_decision() -> None:
    depths = np.bincount(list(layers_of(get_space("vit", subspace="digits"))), minlength=5)[1:]
    assert (abs(depths - 500) < 100).all()


def test_numbers_of_sub_spaces_are_their_own() -> None:
    """They stand in codes: two of the same number would be read as each other."""
    numbers = {name: one.number for name, one in SUBSPACES.items()}
    assert numbers == {
        "autoformer-tiny": 1,
        "autoformer-small": 2,
        "autoformer-base": 3,
        "pyramid": 4,
        "hybrid": 5,
        "digits": 6,
        "pit-tiny": 7,
    }
    tiny, digits = (get_space("vit", subspace=name) for name in ("autoformer-tiny", "digits"))
    assert not digits.contains_codes(some(tiny, 3).codes).any()


def test_another_choice_of_network_is_built() -> None:
    """The network is the one of the architecture, not of a neighbour."""
    space: Any = get_space("vit", subspace="digits")
    one = space.parse("class+tokens1/conv3s2p1+w24+conditional:h2w16-reduction2-mlpconv2,h1w8-mlp1")
    network = space.build(one)
    assert isinstance(network, Network)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
