import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.errors import DataError
from nasplatform.training.holdout import stratified


def generator():
    return np.random.Generator(np.random.PCG64(0))


@given(
    st.lists(st.integers(3, 40), min_size=2, max_size=5),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
)
def test_each_class_is_dealt_by_the_same_shares_and_every_example_once(counts, valid, test):
    labels = generator().permutation(np.repeat(np.arange(len(counts)), counts))
    parts = stratified(labels, {"valid": valid, "test": test}, generator(), "here")
    assert list(parts) == ["train", "valid", "test"]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    for name, share in (("valid", valid), ("test", test)):
        found = np.bincount(labels[parts[name]], minlength=len(counts))
        for count, n in zip(found, counts, strict=True):
            assert count >= 1
            assert abs(count - share * n) <= 1.5
    assert np.bincount(labels[parts["train"]], minlength=len(counts)).min() >= 1


def test_nothing_is_cut_where_nothing_is_missing():
    labels = np.arange(6) % 2
    parts = stratified(labels, {}, generator(), "here")
    assert sorted(parts["train"]) == list(range(6))


def test_a_class_too_small_is_named_with_what_to_do():
    labels = np.array([0, 0, 0, 1, 1])
    with pytest.raises(DataError, match=r"here: class 'fox' has 2 image\(s\), and valid, test"):
        stratified(labels, {"valid": 0.2, "test": 0.2}, generator(), "here", ["cat", "fox"])
