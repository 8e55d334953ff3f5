"""Chains: counted as built, packed without twins, told apart by their arrays."""

from hashlib import md5

import numpy as np
import pytest
import torch
from chains import TEXT, small, some
from scipy.stats import chisquare
from torch import nn

from nasplatform.errors import ArchitectureError, ConfigError
from nasplatform.spaces import get_space
from nasplatform.spaces.macro_chain import Block, Chain, Stage

SHAPES = [(3, 32, 32), (1, 7, 12), (2, 9, 5)]


@pytest.fixture(scope="module")
def space():
    return small()


def counted_by_hooks(module, shape):
    """Multiply-adds of all convolutions and linear layers, from the shapes that really flow."""
    macs = {}

    def hear(layer, inputs, output):
        if isinstance(layer, nn.Conv2d):
            macs[layer] = output[0].numel() * layer.weight[0].numel()
        else:
            macs[layer] = layer.weight.numel()

    handles = [
        layer.register_forward_hook(hear)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        module.eval()(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return macs


def params_of(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_costs_are_those_of_the_network(shape, stem_stride):
    space = small(input_shape=shape, stem_stride=stem_stride, strides=((1, 2), (1,)), classes=7)
    chains = some(space, 12)
    graphs = space.graphs(chains)
    for row, chain in enumerate(chains):
        network = space.build(chain)
        macs = counted_by_hooks(network, shape)
        assert graphs.total_params[row] == params_of(network)
        assert graphs.total_flops[row] == 2 * sum(macs.values())
        nodes = np.flatnonzero(graphs.operation_mask(kind="block")[row])
        assert len(nodes) == len(network.body)
        images = network.stem(torch.zeros(1, *shape))
        assert graphs.channels[row, 0, 0] == images.shape[1]
        assert graphs.resolution[row, 0, 0] == max(images.shape[2:])
        for node, block in zip(nodes, network.body, strict=True):
            images = block(images)
            assert graphs.channels[row, 0, node] == images.shape[1]
            assert graphs.resolution[row, 0, node] == max(images.shape[2:])
            assert graphs.params[row, 0, node] == params_of(block)
            within = [macs[layer] for layer in block.modules() if layer in macs]
            assert graphs.flops[row, 0, node] == 2 * sum(within)
        assert graphs.channels[row, 0, -1] == images.shape[1]
        assert graphs.resolution[row, 0, -1] == max(images.shape[2:])


def test_graph_of_a_chain_by_hand(space):
    graphs = space.graphs([space.parse(TEXT)])
    names = [graphs.vocabulary[op].name for op in graphs.ops[0]]
    assert names == [
        "input",
        "mbconv3x3-e3-entry",
        "mbconv5x5-e6",
        "identity",
        "mbconv3x3-e6-entry",
        "identity",
        "identity",
        "output",
    ]
    assert np.argwhere(graphs.adjacency[0]).tolist() == [[i, i + 1] for i in range(7)]
    assert graphs.channels[0, 0].tolist() == [8, 16, 16, 16, 24, 24, 24, 24]
    assert graphs.resolution[0, 0].tolist() == [32, 32, 32, 32, 16, 16, 16, 16]
    nan = [float("nan")] * 4
    np.testing.assert_array_equal(
        graphs.attributes[0],
        [nan, [3, 3, 16, 1], [5, 6, 16, 1], nan, [3, 6, 24, 2], nan, nan, nan],
    )
    # 8 -> 24 -> 16 on 32 x 32: weights of the three convolutions, two numbers per channel normed.
    assert graphs.params[0, 0, 1] == 8 * 24 + 9 * 24 + 24 * 16 + 2 * (24 + 24 + 16)
    assert graphs.flops[0, 0, 1] == 2 * 1024 * (8 * 24 + 9 * 24 + 24 * 16)
    # 16 -> 96 on 32 x 32, then the window steps to 16 x 16.
    assert graphs.flops[0, 0, 4] == 2 * (1024 * 16 * 96 + 256 * (9 * 96 + 96 * 24))


def test_vocabulary_says_what_a_block_is(space):
    known = {op.name: op for op in space.graphs(some(space, 1)).vocabulary}
    assert len(known) == 2 + 2 * 6 + 1
    block, entry = known["mbconv5x5-e6"], known["mbconv5x5-e6-entry"]
    assert (block.kind, block.kernel, block.expansion, block.residual) == ("block", 5, 6, True)
    assert not entry.residual
    assert entry.parts == block.parts
    assert block.mixes_channels
    assert [part.kernel for part in block.parts] == [1, 5, 1]
    assert [part.groups for part in block.parts] == ["full", "depthwise", "full"]
    assert [part.nonlinear for part in block.parts] == [True, True, False]
    assert all(part.normalised for part in block.parts)
    assert [part.kernel for part in known["mbconv3x3-e1"].parts] == [3, 1]


def test_network_adds_the_input_where_the_shape_is_kept(space):
    network = space.build(space.parse("w8s1:k3e1-k5e3-k3e6/w24s2:k3e6-k3e1")).eval()
    assert [block.residual for block in network.body] == [False, True, True, False, True]
    images = torch.randn(2, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = network.body[0], network.body[1]
        torch.testing.assert_close(first(images), first.layers(images))
        torch.testing.assert_close(second(images), second.layers(images) + images)


def test_network_exports(space):
    network = space.build(space.parse(TEXT)).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


def test_code_by_hand(space):
    chain = space.parse(TEXT)
    assert chain == Chain((Stage(16, 1, (Block(3, 3), Block(5, 6))), Stage(24, 2, (Block(3, 6),))))
    words = space.population([chain]).codes[0].tolist()
    assert words == [0x5633010010, 0x36020018, 0, 0, 0, 0]
    assert chain.hash == md5(TEXT.encode()).hexdigest()
    assert space.format(chain) == str(chain) == TEXT


def test_six_deep_stages_fit_their_codes():
    space = get_space(
        "macro-chain",
        input_shape=(3, 64, 64),
        widths=((300, 65535),) * 6,
        strides=((1, 2),) * 6,
        max_depth=5,
        kernels=(3, 5, 7),
        expansions=(1, 6, 15),
    )
    chains = some(space, 200)
    assert (chains.codes != 0).all()
    again, errors = space.parse_many(chains.texts)
    assert not errors
    np.testing.assert_array_equal(again.codes, chains.codes)
    assert [space.format(chain) for chain in chains] == chains.texts
    assert space.contains_codes(chains.codes).all()
    assert len(np.unique(chains.keys)) == len(np.unique(chains.codes, axis=0))


def test_every_chain_of_a_tiny_space_has_its_own_arrays_and_key():
    """Reached by single edits from one chain; counted by hand; no twins."""
    tiny = small(widths=((8, 16), (8, 16)), max_depth=2, expansions=(1, 3))
    found = tiny.sample(1, np.random.default_rng(0))
    while True:
        more = type(found).joined([found, tiny.neighbours(found)]).unique()
        if len(more) == len(found):
            break
        found = more
    assert len(found) == (2 * 2 * (4 + 16)) ** 2
    graphs = tiny.graphs(found)
    arrays = [graphs.ops, graphs.attributes.reshape(len(found), -1)]
    distinct = np.unique(np.concatenate(arrays, axis=1), axis=0)
    assert len(distinct) == len(found) == len(set(found.hashes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has 1 stage\(s\) between '/', expected 2 such as 'w8s1:k3e3-k5e6'"),
        (TEXT + "/w24s1:k3e6", "has 3 stage"),
        ("w16s1:k3e3/24s2:k3e6", "stage 2 is '24s2:k3e6', expected wWIDTHsSTRIDE"),
        ("w20s1:k3e3/w24s2:k3e6", "stage 1: width is 20, expected 8, 16"),
        ("w16s3:k3e3/w24s2:k3e6", "stage 1: stride is 3, expected 1, 2"),
        ("w16s1:k3e3-k7e3/w24s2:k3e6", "stage 1, block 2: kernel is 7, expected 3, 5"),
        ("w16s1:k3e3/w24s2:k3e2", "stage 2, block 1: expansion is 2, expected 1, 3, 6"),
        ("w16s1:/w24s2:k3e6", "stage 1, block 1 is '', expected e.g. 'k3e6'"),
        ("w16s1:k3e3-k03e3/w24s2:k3e6", "stage 1, block 2 is 'k03e3'"),
        ("w16s1:k3e3-k3e3-k3e3-k3e3/w24s2:k3e6", "stage 1 has 4 blocks, expected at most 3"),
    ],
)
def test_bad_texts_say_what_and_where(space, text, message):
    with pytest.raises(ArchitectureError, match=message):
        space.parse(text)


def test_many_texts_are_read_as_one_by_one(space):
    texts = [*some(space, 300).texts, " " + TEXT, None, TEXT.upper()]
    chains, errors = space.parse_many(texts)
    assert sorted(errors) == [301, 302]
    assert list(chains) == [space.parse(text) for text in texts[:301]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, r"widths: 0 stages, expected 1 to 6"),
        ({"widths": ((16, 8), (24,))}, r"widths: stage 1: expected one or more rising numbers"),
        ({"widths": ((8,), (0, 24))}, r"widths: stage 2: 0 is not among 1 to 65535"),
        ({"strides": ((1,),)}, r"strides: 1 stages, expected 2 as in widths"),
        ({"strides": ((1,), (3,))}, r"strides: stage 2: 3 is not among 1, 2"),
        ({"kernels": (3, 4)}, r"kernels: 4 is not among 3, 5, 7"),
        ({"expansions": ()}, r"expansions: expected one or more rising numbers"),
        ({"expansions": (16,)}, r"expansions: 16 is not among 1 to 15"),
        ({"max_depth": 6}, r"max_depth: .*at most 5"),
        ({"input_shape": (3, 2, 8)}, r"strides: stage 2 halves maps of 1 pixel"),
        ({"input_shape": (3, 1, 1), "stem_stride": 2}, r"strides: the stem halves maps of 1"),
        ({"input_shape": (0, 8, 8)}, r"input_shape: expected three positive numbers"),
        ({"depth": 3}, r"unknown key 'depth'"),
    ],
)
def test_bad_options_name_the_field(options, message):
    with pytest.raises(ConfigError, match=message):
        small(**options)


def test_other_input_of_the_same_space(space):
    assert space.with_input((1, 8, 8), 4).options.input_shape == (1, 8, 8)
    with pytest.raises(ConfigError, match="strides: stage 2 halves maps of 1 pixel"):
        space.with_input((1, 2, 2), 4)


def test_codes_of_strangers_are_refused(space):
    codes = some(space).codes
    for word, value in (
        (0, 0),  # no first stage
        (2, int(codes[0, 0])),  # a third stage
        (0, 0x33_0033_01_0010),  # a gap between blocks
        (0, 0x33333333_01_0010),  # four blocks
        (0, 0x73_01_0010),  # a window of 7
        (0, 0x33_03_0010),  # a stride of 3
        (1, 0x33_01_0010),  # a width of another stage
        (0, 0x0133_01_0010),  # a block without window
    ):
        strange = codes.copy()
        strange[3, word] = value
        assert np.flatnonzero(~space.contains_codes(strange)).tolist() == [3]
        with pytest.raises(ArchitectureError, match=r"code [0-9a-f-]+ in row 3 is no chain"):
            space.from_codes(strange)


def test_neighbours_by_hand(space):
    chain = space.parse(TEXT)
    around = {space.format(other) for other in space.neighbours([chain])}
    second = "/w24s2:k3e6"
    first = {f"w8s1:k3e3-k5e6{second}", f"w16s2:k3e3-k5e6{second}", f"w16s1:k3e3{second}"}
    first |= {f"w16s1:k5e3-k5e6{second}", f"w16s1:k3e3-k3e6{second}"}
    first |= {f"w16s1:k3e{e}-k5e6{second}" for e in (1, 6)}
    first |= {f"w16s1:k3e3-k5e{e}{second}" for e in (1, 3)}
    blocks = [f"k{k}e{e}" for k in (3, 5) for e in (1, 3, 6)]
    first |= {f"w16s1:k3e3-k5e6-{block}{second}" for block in blocks}
    kept = "w16s1:k3e3-k5e6"
    last = {f"{kept}/w32s2:k3e6", f"{kept}/w24s1:k3e6", f"{kept}/w24s2:k5e6"}
    last |= {f"{kept}/w24s2:k3e{e}" for e in (1, 3)}
    last |= {f"{kept}/w24s2:k3e6-{block}" for block in blocks}
    assert around == first | last


def test_sampling_is_uniform_over_every_decision(space):
    params = [space.to_params(chain) for chain in some(space, 6000)]
    for name, distribution in space.distributions().items():
        made = [p[name] for p in params if name in p]
        counts = np.unique(made, return_counts=True)[1]
        values = getattr(distribution, "choices", None) or range(1, 4)
        assert len(counts) == len(values)
        assert chisquare(counts).pvalue > 1e-6, name


def test_graphs_of_another_space_lead_nowhere(space):
    for changed in ({"expansions": (1, 2)}, {"max_depth": 2}, {"widths": ((8, 16), (24,))}):
        other = small(**changed)
        with pytest.raises(ArchitectureError, match=r"'macro-chain', expected .* same options"):
            space.from_graphs(other.graphs(some(other, 2)))


@pytest.fixture(scope="module")
def many():
    space = get_space("macro-chain")
    return space, some(space, 100_000)


def test_speed_of_costs(benchmark, many):
    space, chains = many
    graphs = benchmark.pedantic(space.graphs, (chains,), rounds=3)
    assert len(graphs) == 100_000


def test_speed_of_neighbours(benchmark, many):
    space, chains = many
    benchmark(space.neighbours, chains[:100])


def test_speed_of_texts(benchmark, many):
    space, chains = many
    benchmark.pedantic(lambda: space.parse_many(chains[:10_000].texts), rounds=3)
