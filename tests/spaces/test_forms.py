"""Architectures as other tools write them."""

import json

import numpy as np
import pandas as pd
import pytest

from nasplatform.errors import ArchitectureError
from nasplatform.prepared import Prepared
from nasplatform.spaces import get_space

NB201, NB101 = get_space("nasbench201"), get_space("nasbench101")
# NASLib's own conversion of op_indices [1, 3, 4, 3, 2, 2], by hand:
# 1->2 none, 1->3 1x1, 1->4 pool, 2->3 1x1, 2->4 3x3, 3->4 3x3 with vertices from 1
CELL = NB201.parse(
    "|none~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
MATRIX = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
OPERATIONS = ["input", "conv3x3-bn-relu", "maxpool3x3", "output"]
OF_API = {"module_adjacency": MATRIX, "module_operations": OPERATIONS}
OF_NNI = {"op1": "conv3x3-bn-relu", "op2": "maxpool3x3", "input1": [0], "input2": [0]}
OF_NNI |= {"input3": [1, 2]}


@pytest.mark.parametrize(
    "text",
    [
        "naslib:134322",
        "naslib:(1, 3, 4, 3, 2, 2)",
        "naslib: [1,3,4,3,2,2]",
        "naslib:1, 3, 4, 3, 2, 2",
        'nni:{"0_1": "none", "0_2": "conv_1x1", "1_2": "conv_1x1", "0_3": "avg_pool_3x3", '
        '"1_3": "conv_3x3", "2_3": "conv_3x3"}',
        " |none~0|+|conv_1x1~0|nor_conv_1x1~1|+|AVG_POOL_3x3~0| nor_conv_3x3~1 |conv_3x3~2|\n",
        "|none~0| + |nor_conv_1x1~0|nor_conv_1x1~1| + |avg_pool_3x3~0|conv_3x3~1|nor_conv_3x3~2|",
    ],
)
def test_texts_of_other_tools_are_the_cell_that_they_mean(text):
    assert NB201.parse(text) == CELL
    found, errors = NB201.parse_many([text, NB201.format(CELL)])
    assert not errors
    assert list(found) == [CELL, CELL]


@pytest.mark.parametrize(
    "value", [[1, 3, 4, 3, 2, 2], (1, 3, 4, 3, 2, 2), np.array([1, 3, 4, 3, 2, 2]), "134322"]
)
def test_values_of_other_tools_are_read(value):
    assert NB201.read(value, form="naslib") == CELL


def test_the_same_digits_mean_another_cell_here_and_that_is_said():
    assert NB201.parse("134322") != CELL
    assert "for NASLib's indices write naslib: before" in NB201.caution(["134322"])
    assert NB201.caution([NB201.format(CELL), "naslib:134322", None]) is None
    assert NB101.caution(["[3M]101/10/1"]) is None


# the benchmark's own list, as its API prints it: number -> digits
@pytest.mark.parametrize(
    ("number", "digits"),
    [(0, "421211"), (1, "334131"), (1462, "333333"), (15_624, "202022")],
)
def test_numbers_of_the_benchmark_are_read(number, digits):
    for value in (number, str(number), f" {number}"):
        assert NB201.read(value, form="nats-index") == NB201.parse(digits)
    assert NB201.parse(f"nats-index:{number}") == NB201.parse(digits)


@pytest.mark.parametrize(
    "value",
    [
        "021232",
        (0, 2, 1, 2, 3, 2),
        ["none", "conv_1x1", "skip", "nor_conv_1x1", "NOR_CONV_3x3", "conv1x1"],
        [
            (("none", 0),),
            (("nor_conv_1x1", 0), ("skip_connect", 1)),
            (("nor_conv_1x1", 0), ("nor_conv_3x3", 1), ("nor_conv_1x1", 2)),
        ],
    ],
)
def test_the_own_order_can_be_said(value):
    assert NB201.read(value, form="nb201") == NB201.parse("021232")


@pytest.mark.parametrize("text", ["0 2 1 2 3 2", "0,2,1,2,3,2", "(0, 2, 1, 2, 3, 2)", "[021232]"])
def test_lists_of_digits_are_read_as_digits_and_that_is_said(text):
    assert NB201.parse(text) == NB201.parse("021232")
    assert "six digits are read as" in NB201.caution([text])


def test_md5_names_a_cell(monkeypatch, tmp_path):
    from nasplatform.spaces.nasbench101 import index

    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path))
    some = NB101.enumerate()[:300]
    monkeypatch.setattr(index, "enumerate_cells", lambda: some)
    monkeypatch.setattr(index, "INDEX", Prepared("md5s", index._index))
    cell = some[217]
    assert NB101.parse(f"md5:{cell.hash}") == NB101.parse(cell.hash.upper()) == cell
    monkeypatch.setattr(index, "INDEX", Prepared("md5s", index._index))  # now from the file
    assert NB101.read(cell.hash, form="md5") == cell
    with pytest.raises(ArchitectureError, match="is of no cell"):
        NB101.parse("0" * 32)


def test_md5s_are_read_where_nothing_can_be_kept(monkeypatch, tmp_path):
    from nasplatform.spaces.nasbench101 import index

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path / "file"))
    some = NB101.enumerate()[:300]
    monkeypatch.setattr(index, "enumerate_cells", lambda: some)
    monkeypatch.setattr(index, "INDEX", Prepared("md5s", index._index))
    assert NB101.parse(some[3].hash) == some[3]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OF_API),
        json.dumps([MATRIX, OPERATIONS]),
        json.dumps({"matrix": MATRIX, "ops": ["INPUT", "conv_3x3", " MaxPool3x3", "output"]}),
        " [3m] 110/01/1 ",
        f"nasbench-api:{json.dumps(OF_API)}",
        f"nasbench-api:{json.dumps([MATRIX, OPERATIONS])}",
        f"nni:{json.dumps(OF_NNI)}",
        "nni:" + str(OF_NNI),
    ],
)
def test_cells_of_nasbench101_in_other_forms(text):
    assert NB101.parse(text) == NB101.parse(json.dumps({"matrix": MATRIX, "ops": OPERATIONS}))


@pytest.mark.parametrize(
    ("space", "text", "words"),
    [
        (NB201, "naslb:134322", "unknown form 'naslb'; did you mean 'naslib'"),
        (NB201, "nni:134322", "expected a mapping"),
        (NB201, "naslib:13432", "expected 6 operations, found 5"),
        (NB201, "naslib:134325", "operation 6 is 5, expected a whole number from 0 to 4"),
        (NB201, "naslib:[1, 3, 4, 3, 2, 2.5]", "operation 6 is 2.5"),
        (NB201, "naslib:[[1], 3, 4, 3, 2, 2]", "is nothing that naslib writes"),
        (NB201, "naslib:" + "[" * 9000, "neither digits, a list nor JSON"),
        (NB201, "naslib:" + "1" * 20_000, "20,000 characters"),
        (NB201, 'nni:{"0_1": "none"}', "expected the keys 0_1, 0_2"),
        (NB201, 'nni:{"0_1": 3, "0_2": 1, "1_2": 1, "0_3": 1, "1_3": 1, "2_3": 1}', "nothing that"),
        (NB101, 'nni:{"op1": "conv3x3", "input1": [0]}', "expected op1 to op1 and input1 to"),
        (NB101, 'nni:{"op1": "conv3x3", "input1": [0], "input2": [3]}', "input2 is 3"),
        (NB101, "nasbench-api:{}", "is nothing that nasbench-api writes"),
        (NB201, "naslib:[1e999, 3, 4, 3, 2, 2]", "is nothing that naslib writes"),
        (NB101, 'nasbench-api:[[[0, 1e999], [0, 0]], ["input", "output"]]', "is inf, expected 0"),
        (NB101, "md5:xyz", "no md5: expected 32 hexadecimal digits"),
        (NB101, '{"matrix": [[0]]}', 'expected JSON {"matrix"'),
        (NB201, "nats-index:15625", "no whole number from 0 to 15624"),
        (NB201, "nats-index:-1", "no whole number|neither digits"),
        (NB201, "nb201:(3, 3, 4, 1, 3)", "expected 6 operations, found 5"),
        (NB201, 'nb201:["none", "x", "none", "none", "none", "none"]', "edge 2<-0 is 'x'"),
        (NB101, "naslib:134322", "unknown form 'naslib'; known are md5, nasbench-api, nni$"),
        (get_space("macro-chain"), "nni:x", "macro-chain|form|stage"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(space, text, words):
    with pytest.raises(ArchitectureError, match=words) as caught:
        space.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_series_are_read_by_position_whatever_their_index():
    texts = pd.Series(["naslib:134322", None, "naslib:000000"], index=[2, 0, 1])
    found, errors = NB201.parse_many(texts)
    assert list(errors) == [1]
    assert found[0] == CELL
