import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasplatform.errors import ArchitectureError, ConfigError
from nasplatform.spaces import get_space
from nasplatform.spaces.nasbench101 import Cell, Cells
from nasplatform.spaces.nasbench101.cells import unpack
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells
from nasplatform.spaces.nasbench101.hashing import _hash_module, official_hashes

FIRST_HASH = "00005c142e6f48ac74fdcf73e3439874"  # of the first record by hash; 8,555,530 params
FIRST = "[3M331]100110/10000/1001/010/10/1"
CONV, POINT, POOL = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"
CHAIN = [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
DATA = os.environ.get("NASPLATFORM_DATA")


@pytest.fixture(scope="module")
def space():
    return get_space("nasbench101")


@pytest.fixture(scope="module")
def every():
    return enumerate_cells()


@pytest.fixture(scope="module")
def published():
    if not DATA:
        pytest.skip("NASPLATFORM_DATA is not set: the published measurements are not at hand")
    names = ["hash", "n_vertices", "adj_bits", "ops", "params", "macs"]
    return pq.read_table(Path(DATA) / "nb101_measured.parquet", columns=names).to_pandas()


def test_unique_cells_per_number_of_vertices_are_the_published_ones(every):
    sizes = (unpack(every.labels)[1] >= 0).sum(1)
    assert np.bincount(sizes).tolist() == [0, 0, 1, 6, 84, 2441, 62010, 359082]


def test_a_published_cell(space):
    cell = space.parse(FIRST)
    assert cell.hash == FIRST_HASH
    assert space.graphs([cell]).total_params.tolist() == [8_555_530]


def test_published_rows_have_our_hash_and_parameters(space, published):
    rows = published.iloc[:: len(published) // 400]
    cells = []
    for row in rows.itertuples():
        n = row.n_vertices
        matrix = np.zeros((n, n), int)
        bits = row.adj_bits >> np.arange(n * (n - 1) // 2)
        matrix[np.triu_indices(n, 1)] = bits & 1
        names = {"3": CONV, "1": POINT, "M": POOL}
        ops = ["input", *(names[letter] for letter in row.ops), "output"]
        cells.append(Cell.of(matrix, ops))
    population = space.population(cells)
    assert population.hashes == rows.hash.tolist()
    assert space.graphs(population).total_params.tolist() == rows.params.tolist()


def test_bulk_hashes_are_those_of_the_plain_loop(every):
    rows = np.r_[0:120, np.random.Generator(np.random.PCG64(0)).integers(0, len(every), 400)]
    adjacency, ops = unpack(every[rows].labels)
    plain = [_hash_module(*pair) for pair in zip(adjacency, ops, strict=True)]
    assert official_hashes(adjacency, ops) == plain
    assert official_hashes(adjacency[:5], ops[:5]) == plain[:5]


@given(index=st.integers(0, 423_623), data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_relabelling_keeps_the_identity(index, data):
    cell = enumerate_cells()[index]
    matrix = np.array(cell.matrix)
    order = [0]
    while len(order) < len(matrix):  # any topological order is a labelling
        ready = [
            v
            for v in range(1, len(matrix))
            if v not in order and set(np.flatnonzero(matrix[:, v])) <= set(order)
        ]
        order.append(data.draw(st.sampled_from(ready)))
    other = Cell.of(matrix[np.ix_(order, order)], [cell.ops[v] for v in order])
    assert other.hash == cell.hash
    keys = Cells(np.array([other.code, cell.code], np.uint64)).keys
    assert keys[0] == keys[1]


def test_dead_vertices_are_pruned(space):
    matrix = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    cell = Cell.of(matrix, ["input", CONV, POOL, "output"])
    assert cell == Cell.of(CHAIN, ["input", CONV, "output"])
    assert space.format(cell) == "[3]10/1"


def test_json_and_compact_form_agree(space):
    text = '{"matrix": [[0, 1, 0], [0, 0, 1], [0, 0, 0]], "ops": ["input", "maxpool3x3", "output"]}'
    assert space.parse(text) == space.parse("[M]10/1")


@pytest.mark.parametrize(
    ("matrix", "ops", "message"),
    [
        ([[0, 1], [0]], ["input", "output"], "rows of unequal length"),
        ([[0, 1], [0, 0]], ["input", CONV, "output"], r"shape \(2, 2\) for 3 ops"),
        ([[0, 2], [0, 0]], ["input", "output"], r"matrix\[0\]\[1\] is 2.0, expected 0 or 1"),
        ([[0, 1], [1, 0]], ["input", "output"], r"matrix\[1\]\[0\] is 1: only edges to later"),
        ([[0, 0], [0, 0]], ["input", "output"], "no path leads from vertex 0"),
        (CHAIN, ["input", "conv", "output"], r"ops\[1\] is 'conv', expected 'conv3x3-bn-relu'"),
        (CHAIN, [CONV, CONV, "output"], r"ops\[0\] is 'conv3x3-bn-relu', expected 'input'"),
        (np.triu(np.ones((7, 7)), 1), ["input", *[CONV] * 5, "output"], "21 edges after pruning"),
    ],
)
def test_invalid_cells_say_what_and_where(matrix, ops, message):
    with pytest.raises(ArchitectureError, match=message):
        Cell.of(matrix, ops)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected '\\[OPS\\]BITS'"),
        ("[3X]101/10/1", "operation 'X' at position 2"),
        ("[3M]101/1/1", "4 vertices need rows of 3, 2, 1 bits"),
        ("{", "expected JSON"),
        ('{"matrix": [[0, 1], [0, 0]]}', "expected JSON"),
        ('{"matrix": 1, "ops": 2}', "expected JSON"),
        ('{"matrix": 1, "ops": []}', "matrix has shape"),
        ("[]1" + "0" * 4000, "rows of 1 bits"),
    ],
)
def test_bad_texts_say_what_and_where(space, text, message):
    with pytest.raises(ArchitectureError, match=message):
        space.parse(text)


def test_impossible_options_say_so():
    with pytest.raises(ConfigError, match="too small for 3 stacks"):
        get_space("nasbench101", input_shape=(1, 3, 3))
    with pytest.raises(ConfigError, match="unknown key 'stem'"):
        get_space("nasbench101", stem=8)


def test_speed_of_enumeration_with_costs(benchmark):
    """All 423,624 cells with parameters and FLOPs of every vertex; 10 s on one core is the aim."""

    def enumerate_with_costs():
        space = get_space("nasbench101")
        enumerate_cells.cache_clear()
        return space.graphs(space.enumerate())

    graphs = benchmark.pedantic(enumerate_with_costs, rounds=1)
    assert len(graphs) == 423_624


def test_speed_of_all_official_hashes(benchmark, every):
    """The md5 of all 423,624 cells; 40 s on one core is the aim."""
    hashes = benchmark.pedantic(lambda: Cells(every.labels).hashes, rounds=1)
    assert len(set(hashes)) == len(every)
