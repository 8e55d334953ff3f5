from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.errors import ArchitectureError
from nasplatform.spaces import get_space

SPACE = get_space("nasbench101")
LETTERS = "[]31M01/x ?é\ud83d\U0001f600"


def one_at_a_time(texts):
    codes, errors = [], {}
    for index, text in enumerate(texts):
        try:
            codes.append(SPACE.parse(text).code)
        except ArchitectureError as error:
            errors[index] = str(error)
    return codes, errors


def assert_same(texts):
    population, errors = SPACE.parse_many(texts)
    expected, wrong = one_at_a_time(texts)
    assert population.labels.tolist() == expected
    assert {index: str(error) for index, error in errors.items()} == wrong


def test_what_format_writes_is_read_back():
    cells = SPACE.sample(3000, np.random.default_rng(0))
    population, errors = SPACE.parse_many([SPACE.format(cell) for cell in cells])
    assert not errors
    np.testing.assert_array_equal(population.labels, cells.labels)


@given(st.lists(st.text(LETTERS, max_size=34), max_size=20))
def test_any_text_is_read_as_alone(texts):
    assert_same(texts)


@st.composite
def shaped(draw):
    """A text of the right shape for some number of vertices, now and then with a wrong one."""
    n = draw(st.integers(2, 7))
    ops = draw(st.text("31M", min_size=n - 2, max_size=n - 2))
    rows = [draw(st.text("01", min_size=k, max_size=k)) for k in range(n - 1, 0, -1)]
    text = f"[{ops}]{'/'.join(rows)}"
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(st.sampled_from(LETTERS)) + text[at + 1 :]
    return text


@given(st.lists(shaped(), min_size=1, max_size=30))
def test_texts_of_the_right_shape_are_read_as_alone(texts):
    assert_same(texts)


@pytest.mark.parametrize(
    "text", [" []1 ", '{"matrix": [[0, 1], [0, 0]], "ops": ["input", "output"]}']
)
def test_other_forms_stand_between_compact_ones(text):
    assert_same(["[3M]101/10/1", text, "[]0", text])


def test_nothing_is_nothing():
    population, errors = SPACE.parse_many([])
    assert (len(population), errors) == (0, {})
