from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nasplatform.service.cache import PredictionCache


def spread(codes, words):
    """Codes (B, W) that differ in the last word alone."""
    return np.stack([*[np.zeros_like(codes)] * (words - 1), codes], axis=1)


@given(
    st.integers(1, 3),
    st.integers(0, 20),
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=15), max_size=10),
)
def test_what_is_known_is_what_was_put_last(words, slots, batches):
    cache, truth = PredictionCache(slots, 2, words), {}
    for turn, batch in enumerate(batches):
        codes = np.array(batch, np.uint64)
        rows = np.stack([codes + np.uint64(turn), codes], axis=1).astype(float)
        cache.put(spread(codes, words), rows)
        truth.update(zip(batch, rows.tolist(), strict=True))
        asked = np.array(sorted(truth), np.uint64)
        known, found = cache.get(spread(asked, words))
        for code, there, row in zip(asked.tolist(), known, found.tolist(), strict=True):
            assert not there or row == truth[code]
        if not slots:
            assert not known.any()


def test_far_more_slots_than_codes_forget_little():
    codes = np.random.default_rng(0).integers(0, 1 << 60, 1000).astype(np.uint64)
    cache = PredictionCache(1 << 16, 1)
    cache.put(codes[:, None], codes[:, None].astype(float))
    known, rows = cache.get(codes[:, None])
    assert known.mean() > 0.95
    np.testing.assert_array_equal(rows[known, 0], codes[known].astype(float))


def test_code_zero_is_unknown_at_first():
    assert not PredictionCache(8, 1).get(np.zeros((1, 1), np.uint64))[0].any()
