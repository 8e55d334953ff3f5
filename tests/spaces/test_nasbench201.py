import os
from hashlib import md5
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.errors import ArchitectureError
from nasplatform.models.costs import count_parameters
from nasplatform.spaces import get_space
from nasplatform.spaces.nasbench201 import Cell
from nasplatform.spaces.nasbench201.cells import EDGES, N_CELLS
from nasplatform.spaces.nasbench201.identity import OPERATIONS, canonical_strings
from nasplatform.training.flops import count_macs

EXAMPLE = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|"
    "skip_connect~2|"
)
# NATS-Bench's own record of this cell: 0.802426 M parameters, 113.95137 M multiply-adds, ten of
# which are the additions of the classifier's biases.
EXAMPLE_PARAMS, EXAMPLE_MACS = 802_426, 113_951_360
DATA = os.environ.get("NASPLATFORM_DATA")
codes = st.integers(0, N_CELLS - 1)


@pytest.fixture(scope="module")
def space():
    return get_space("nasbench201")


@pytest.fixture(scope="module")
def published():
    if not DATA:
        pytest.skip("NASPLATFORM_DATA is not set: the published cells are not at hand")
    return pq.read_table(Path(DATA) / "nb201.parquet").to_pandas()


def test_number_of_cells(space):
    labelled = space.enumerate_labelled()
    assert len(labelled) == 15_625
    assert len(space.enumerate()) == 6_466
    assert len(set(labelled.hashes)) == len(np.unique(labelled.keys)) == 6_466


def test_unique_cells_are_the_cheapest_of_their_class(space):
    labelled = space.enumerate_labelled()
    params = space.graphs(labelled).total_params
    cheapest = np.full(N_CELLS, np.iinfo(np.int64).max)
    np.minimum.at(cheapest, labelled.keys.astype(np.intp), params)
    chosen = space.enumerate()
    np.testing.assert_array_equal(
        space.graphs(chosen).total_params, cheapest[chosen.labels.astype(np.intp)]
    )


def test_parameters_and_flops_are_the_published_ones_of_every_cell(space, published):
    cells = space.population([space.parse(text) for text in published.arch])
    graphs = space.graphs(cells)
    np.testing.assert_array_equal(graphs.total_params, published.params_c10)
    np.testing.assert_array_equal(graphs.total_flops, 2 * published.macs_c10)
    small = get_space("nasbench201", classes=120, input_shape=(3, 16, 16)).graphs(cells)
    np.testing.assert_array_equal(small.total_params, published.params_in16)
    np.testing.assert_array_equal(small.total_flops, 2 * published.macs_in16)
    hundred = get_space("nasbench201", classes=100).graphs(cells)
    np.testing.assert_array_equal(hundred.total_params, published.params_c100)


def test_texts_codes_and_classes_are_the_published_ones(space, published):
    cells, errors = space.parse_many(published.arch.tolist())
    assert not errors
    assert [space.format(cell) for cell in cells] == published.arch.tolist()
    np.testing.assert_array_equal(space.parse_many(published.code.tolist())[0].labels, cells.labels)
    pairs = np.unique(np.stack([cells.keys, published.iso_class.astype(np.uint64)]), axis=1)
    assert pairs.shape[1] == len(np.unique(cells.keys)) == published.iso_class.nunique() == 6_466


def test_canonical_string_by_hand(space):
    cell = space.parse(EXAMPLE)
    first = "(0)@nor_conv_3x3"
    second = f"({first})@avg_pool_3x3+{first}"
    third = "+".join(sorted(["0", f"({first})@nor_conv_3x3", second]))
    assert canonical_strings()[cell.code] == third
    assert cell.hash == md5(third.encode()).hexdigest()


@given(codes)
def test_canonical_strings_are_those_of_the_official_loop(code):
    nodes = {0: "0"}
    chosen = iter(Cell(code).operations)
    for target in (1, 2, 3):  # Structure.to_unique_str(consider_zero=True)
        terms = []
        for source in range(target):
            operation = next(chosen)
            if operation == "none" or nodes[source] == "#":
                terms.append("#")
            elif operation == "skip_connect":
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{operation}")
        nodes[target] = "+".join(sorted(terms))
    assert canonical_strings()[code] == nodes[3]


def test_graph_of_a_cell_by_hand(space):
    graphs = space.graphs([space.parse("301042")])  # 1<-0 conv3x3, 2<-1 skip, 3<-1 pool, 3<-2 1x1
    names = [graphs.vocabulary[op].name for op in graphs.ops[0]]
    assert names == [
        "input",
        "nor_conv_3x3",
        "none",
        "skip_connect",
        "none",
        "avg_pool_3x3",
        "nor_conv_1x1",
        "output",
    ]
    edges = {tuple(edge) for edge in np.argwhere(graphs.adjacency[0]).tolist()}
    assert edges == {(0, 1), (1, 3), (1, 5), (3, 6), (5, 7), (6, 7)}
    assert graphs.params[0, 0].tolist() == [0, 9 * 256 + 32, 0, 0, 0, 0, 256 + 32, 0]
    assert graphs.flops[0, 5, 6] == 2 * 32 * 32 * 16 * 16  # second stage: 32 channels, 16 x 16
    assert graphs.channels[0, :, 1].tolist() == [16] * 5 + [32] * 5 + [64] * 5
    assert graphs.stages == (0,) * 5 + (1,) * 5 + (2,) * 5


def test_edges_of_the_graph_follow_the_cell(space):
    every = space.enumerate_labelled()
    graphs = space.graphs(every)
    digits = np.array([[int(d) for d in np.base_repr(code, 5).zfill(6)] for code in every.labels])
    for i, (source, target) in enumerate(EDGES):
        live = digits[:, i] != 0
        np.testing.assert_array_equal(graphs.adjacency[:, 0, 1 + i], live & (source == 0))
        np.testing.assert_array_equal(graphs.adjacency[:, 1 + i, 7], live & (target == 3))
        for j, (other, _) in enumerate(EDGES):
            expected = live & (digits[:, j] != 0) & (other == target)
            np.testing.assert_array_equal(graphs.adjacency[:, 1 + i, 1 + j], expected)


def test_example_is_built_as_published(space):
    network = space.build(space.parse(EXAMPLE))
    assert sum(p.numel() for p in network.parameters()) == EXAMPLE_PARAMS
    assert count_parameters(network, (3, 32, 32)) == EXAMPLE_PARAMS
    assert count_macs(network, (3, 32, 32)) == EXAMPLE_MACS
    graphs = space.graphs([space.parse(EXAMPLE)])
    assert graphs.total_params.tolist() == [EXAMPLE_PARAMS]
    assert graphs.total_flops.tolist() == [2 * EXAMPLE_MACS]


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 1, 1), (2, 16, 5)])
def test_any_skeleton_is_counted_as_built(shape):
    space = get_space(
        "nasbench201", stem_channels=3, cells_per_stage=1, stages=3, input_shape=shape, classes=4
    )
    for text in ("333333", "222222", "444444", "000000", "301042", "330000"):
        cell = space.parse(text)
        network = space.build(cell)
        graphs = space.graphs([cell])
        assert sum(p.numel() for p in network.parameters()) == graphs.total_params[0]
        assert network(torch.zeros(2, *shape)).shape == (2, 4)
        if text in ("333333", "222222", "444444"):  # nothing dead: all is computed
            assert 2 * count_macs(network, shape) == graphs.total_flops[0]


def test_network_computes_the_cell(space):
    """Compare with the sum written out by hand; dead branches do not matter."""
    tiny = get_space("nasbench201", stem_channels=4, stages=1, cells_per_stage=1)
    network = tiny.build(tiny.parse("231043")).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    cell, stem = network.body[0], network.stem(images)
    with torch.no_grad():
        one = cell.edges["from_0_to_1"](stem)
        two = cell.edges["from_0_to_2"](stem) + one
        pooled = torch.nn.functional.avg_pool2d(one, 3, 1, 1, count_include_pad=False)
        three = pooled + cell.edges["from_2_to_3"](two)
        torch.testing.assert_close(cell(stem), three)


def test_network_exports(space):
    tiny = get_space("nasbench201", stem_channels=4, cells_per_stage=1)
    network = tiny.build(tiny.parse("230143")).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected six digits"),
        ("33413", "expected six digits"),
        ("334135", r"digit '5' at position 6 \(edge 3<-2\), expected 0 to 4"),
        ("33413²", "digit '²' at position 6"),
        ("|none~0|", "expected three nodes joined by"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "node 2 is .* expected 2 'operation~source'"),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "found 'none~0', expected OPERATION~1"),
        ("|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|", "node 1: found 'conv~0'"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2", "node 3"),
    ],
)
def test_bad_texts_say_what_and_where(space, text, message):
    with pytest.raises(ArchitectureError, match=message):
        space.parse(text)


def test_bad_codes_and_operations_are_refused(space):
    with pytest.raises(ArchitectureError, match="code 15625 in row 1"):
        space.from_codes(np.array([0, 15_625], np.uint64))
    with pytest.raises(ArchitectureError, match="code -1"):
        Cell(-1)
    with pytest.raises(ArchitectureError, match="edge 2<-1 is 'conv'"):
        Cell.of(["none", "none", "conv", "none", "none", "none"])
    with pytest.raises(ArchitectureError, match="5 operations given, expected 6"):
        Cell.of(["none"] * 5)


@given(codes)
def test_neighbours_differ_in_one_operation(code):
    space = get_space("nasbench201")
    cell = Cell(code)
    around = space.neighbours([cell])
    for other in around:
        pairs = zip(cell.operations, other.operations, strict=True)
        assert sum(a != b for a, b in pairs) == 1
    reachable = {
        Cell.of([*cell.operations[:i], name, *cell.operations[i + 1 :]])
        for i in range(6)
        for name in OPERATIONS
    }
    assert set(around) == reachable - {cell}


def test_isomorphic_cells_are_equal(space):
    # A 1x1 of a skip of the input is a 1x1 of the input; by node 2, where nothing is added to the
    # skip, the official string keeps that nothing and tells them apart.
    assert space.parse("100020") == space.parse("000200")
    assert space.parse("010002") != space.parse("000200")
    assert space.parse("100020") != space.parse("000300")
