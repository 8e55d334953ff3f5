from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from nasplatform.predictors.levels import CompleteTrees
from nasplatform.predictors.trees import Forest, TreesOptions


def walked(forest, row):
    """Walk down each tree, one question after the other."""
    total = forest.base
    for tree in range(len(forest.feature)):
        node = 0
        for _ in range(forest.depth):
            low = row[forest.feature[tree, node]] <= forest.threshold[tree, node]
            node = (forest.left if low else forest.right)[tree, node]
        total += forest.value[tree, node]
    return total


@pytest.mark.parametrize("depth", [1, 3, 4, 5, 7])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_all_at_once_is_as_one_after_the_other(depth, rows):
    rng = np.random.default_rng(depth)
    x = rng.integers(0, 4, (60, 9)).astype(np.float32)
    y = x[:, 0] + np.sin(x[:, 1] * x[:, 2]) + rng.normal(0, 0.1, 60)
    forest = Forest.grow(x, y, TreesOptions(trees=12, depth=depth), 0)
    asked = rng.integers(0, 4, (rows, 9)).astype(np.float32)  # ties with the thresholds, too
    slow = [walked(forest, row) for row in asked]
    np.testing.assert_allclose(forest(asked) if rows else np.empty(0), slow, rtol=1e-6)
    if depth <= 5:
        parts = forest.feature, forest.left, forest.right, forest.threshold, forest.value
        sums = CompleteTrees.of(*parts, forest.depth).sums(asked)
        np.testing.assert_allclose(forest.base + sums, slow, rtol=1e-6)


def test_a_forest_says_what_the_boosted_trees_say():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)).astype(np.float32)
    y = 20 + x[:, 0] + rng.normal(0, 0.1, 80)
    options = TreesOptions(trees=9, depth=3, learning_rate=0.3, rows=0.6, columns=0.5)
    grown = GradientBoostingRegressor(
        n_estimators=9, max_depth=3, learning_rate=0.3, subsample=0.6, max_features=0.5,
        min_samples_leaf=3, random_state=4,
    ).fit(x, y)  # fmt: skip
    asked = rng.normal(size=(30, 5)).astype(np.float32)
    np.testing.assert_allclose(
        Forest.grow(x, y, options, 4)(asked), grown.predict(asked), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tree_left", lambda part: part.astype(np.float32)),
        ("tree_right", lambda part: part[:-1]),
        ("tree_feature", lambda part: part.reshape(-1)),
        ("tree_feature", lambda part: np.full_like(part, np.iinfo(np.int32).min)),
        ("tree_left", lambda part: np.full_like(part, -1)),
    ],
)
def test_damaged_trees_are_not_taken_back(name, change):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    state = Forest.grow(x, x[:, 0], TreesOptions(trees=2), 0).state()
    assert Forest.restore(state).base == Forest.restore(dict(state)).base
    with pytest.raises(ValueError, match="tree"):
        Forest.restore({**state, name: change(state[name])})
