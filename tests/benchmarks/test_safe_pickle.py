import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.benchmarks.imports.safe_pickle import loads
from nasplatform.errors import DataError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.text(), st.integers()), inner)
        | st.tuples(inner, inner)
        | st.sets(st.integers())
    ),
    max_leaves=20,
)


@given(plain, st.integers(2, 5))
def test_plain_data_is_read_as_it_was_written(value, protocol):
    assert loads(pickle.dumps(value, protocol=protocol), "x") == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i8", "|u1", "|b1", "<c16"])
def test_numpy_numbers_are_read(kind, protocol):
    array = np.arange(12).reshape(3, 4).astype(kind)
    for value in (array, np.asfortranarray(array), array[:0]):
        found = loads(pickle.dumps(value, protocol=protocol), "x")
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)
    assert loads(pickle.dumps(array[1, 2], protocol=protocol), "x") == array[1, 2].item()


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def touch(path):
    Path(path).touch()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_hostile_pickles_run_nothing(tmp_path, protocol):
    mark = tmp_path / "ran"
    attacks = [
        Hostile(os.system, f"touch {mark}"),
        Hostile(eval, f"open({str(mark)!r}, 'w')"),
        Hostile(touch, str(mark)),
        {"deep": [Hostile(os.system, f"touch {mark}")]},
        Path(mark),
        np.array([Hostile(os.system, f"touch {mark}")], object),
        np.dtype([("a", "f8")]),
        object(),
        Hostile,
        print,
    ]
    for attack in attacks:
        with pytest.raises(DataError) as caught:
            loads(pickle.dumps(attack, protocol=protocol), "file.pickle")
        assert str(caught.value).startswith("file.pickle: ")
        assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_the_name_that_was_asked_for_is_named(tmp_path):
    data = pickle.dumps(Hostile(os.system, "true"))
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.system, which is no plain data"):
        loads(data, "x")
    for attack in (
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02c__builtin__\neval\n.",
        b"\x80\x02cnumpy\ndtype\n(cnumpy\ndtype\ntR.",
        b"\x80\x02ccollections\nOrderedDict\n.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02]cnumpy\ndtype\na.",
        b"\x80\x02Pid\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02N}b.",
    ):
        with pytest.raises(DataError):
            loads(attack, "x")


def test_deep_nests_do_not_exhaust_the_stack():
    deep = b"\x80\x02" + b")" + b"\x85" * 200_000
    with pytest.raises(DataError, match="nested tuples"):
        loads(b"\x80\x02}" + deep[2:] + b"Ns.", "x")
    with pytest.raises(DataError, match="nested tuples"):
        loads(b"\x80\x04\x8f(" + deep[2:] + b"\x90.", "x")


def test_shared_tuples_are_not_expanded():
    """Forty doublings of one tuple are small in memory and endless to walk."""
    value = ()
    for _ in range(40):
        value = (value, value)
    data = pickle.dumps(value)
    assert isinstance(loads(data, "x"), tuple)
    with pytest.raises(DataError, match="nested tuples"):
        loads(data[:2] + b"}" + data[11:-1] + b"Ns.", "x")


def test_an_array_inside_a_tuple_is_an_array():
    found = loads(pickle.dumps({"pair": (np.arange(3), (np.arange(2), 1))}, protocol=4), "x")
    assert found["pair"][0].tolist() == [0, 1, 2]
    assert found["pair"][1][0].tolist() == [0, 1]


SMALL = pickle.dumps(
    {("a", 1): OrderedDict(x=np.float64(0.5)), "b": [1.5, None, {2}], "c": np.arange(3)}, 4
)


def test_truncated_pickles_are_errors():
    for end in range(len(SMALL) - 1):
        with pytest.raises(DataError):
            loads(SMALL[:end], "x")


@given(st.integers(0, len(SMALL) * 8 - 1))
def test_flipped_bits_give_data_or_an_error(bit):
    damaged = bytearray(SMALL)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        value = loads(bytes(damaged), "x")
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert _is_plain(value)


@given(st.binary(max_size=60))
def test_any_bytes_give_data_or_an_error(data):
    for wrapped in (data, b"\x80\x04" + data + b"."):
        try:
            value = loads(wrapped, "x")
        except DataError:
            continue
        assert _is_plain(value)


def _is_plain(value) -> bool:
    match value:
        case dict():
            return all(map(_is_plain, [*value.keys(), *value.values()]))
        case list() | tuple() | set() | frozenset():
            return all(map(_is_plain, value))
        case np.ndarray():
            return value.dtype.kind in "biufc"
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def test_every_instruction_of_plain_data_is_known():
    names = {opcode.name for opcode, _, _ in pickletools.genops(SMALL)}
    assert {"STACK_GLOBAL", "REDUCE", "BUILD", "SETITEMS", "MEMOIZE"} <= names
