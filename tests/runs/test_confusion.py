"""Which classes are told apart, against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasplatform.runs.confusion import Confusion, standard_error
from nasplatform.runs.report_network import class_sections

LABELS = np.array([0, 0, 0, 1, 1, 2])
SAID = np.array([0, 1, 1, 1, 0, 2])


def test_counts_shares_and_mistakes() -> None:
    found = Confusion.of(LABELS, SAID, ("a", "b", "c", "d"))
    assert found.counts.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert found.images.tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(found.accuracy, [1 / 3, 1 / 2, 1, np.nan])
    assert found.mistakes(5) == [("a", "b", 2), ("b", "a", 1)]
    assert found.mistakes(1) == [("a", "b", 2)]


def test_the_error_of_a_share_is_the_binomial_one() -> None:
    draws = np.random.default_rng(0).binomial(50, 0.3, 20_000) / 50
    assert standard_error(0.3, 50) == pytest.approx(draws.std(), rel=0.02)
    assert math.isnan(standard_error(0.5, 0))


def test_few_classes_have_a_matrix_and_of_many_the_worst_are_shown() -> None:
    few = class_sections(Confusion.of(LABELS, SAID, ("a", "b", "c", "d")))
    assert few.table.rows[0] == ["a", "3", "0.333 ± 0.272"]
    assert few.table.rows[3] == ["d", "0", "no image"]
    assert few.matrix is not None
    assert few.matrix[0][1] == (pytest.approx(2 / 3), 2)
    names = tuple(map(str, range(60)))
    labels = np.repeat(np.arange(60), 2)
    said = labels.copy()
    said[-1] = 0
    many = class_sections(Confusion.of(labels, said, names))
    assert many.matrix is None
    assert many.table.rows[0] == ["59", "2", "0.500 ± 0.354"]
    assert len(many.table.rows) == 40
    assert many.mistakes == [("59", "0", 1)]
