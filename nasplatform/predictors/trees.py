"""Boosted regression trees on features of the graph, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.ensemble import GradientBoostingRegressor

from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.feature_scaling import FeatureScaling, fit_scaling
from nasplatform.predictors.gp import PROPAGATION, portions
from nasplatform.predictors.levels import DEEPEST, CompleteTrees
from nasplatform.predictors.target_maps import Floats, MonotoneMap, normal_scores
from nasplatform.spaces.graph import GraphBatch

_CHUNK = 4096  # architectures that walk down the trees at once
_ROWS = 3500  # labels that a tree sees at most: more take longer and add little


class TreesOptions(BaseModel):
    """Options of ``trees``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(200, ge=1, description="trees, one after the other")
    depth: int = Field(4, ge=1, le=10, description="questions from root to leaf")
    learning_rate: float = Field(0.06, gt=0, description="share of a tree that is added")
    rows: float = Field(0.7, gt=0, le=1, description="share of the labels that a tree sees")
    columns: float = Field(0.3, gt=0, le=1, description="share of the features that a split sees")


@dataclass(frozen=True)
class Forest:
    """T binary trees of at most M nodes each; the prediction is the sum of their leaves.

    feature, left, right: (T, M) int32; a leaf leads to itself.
    threshold, value:     (T, M) float32; left where the feature is not larger.
    base:                 what is added to the sum.
    depth:                steps from the root that surely end in a leaf.
    """

    feature: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    threshold: NDArray[np.float32]
    value: NDArray[np.float32]
    base: float
    depth: int

    @classmethod
    def grow(cls, x: NDArray[np.float32], y: Floats, options: TreesOptions, seed: int) -> Forest:
        """Boost trees on x (n, F) and y (n,)."""
        booster = GradientBoostingRegressor(
            n_estimators=options.trees,
            max_depth=options.depth,
            learning_rate=options.learning_rate,
            subsample=min(options.rows, _ROWS / len(y)),
            max_features=options.columns,
            min_samples_leaf=min(3, max(1, len(y) // 8)),
            random_state=seed,
        ).fit(x, y)
        grown = [tree.tree_ for tree in booster.estimators_[:, 0]]
        shape = (len(grown), max(tree.node_count for tree in grown))
        feature, left, right = np.zeros((3, *shape), np.int32)
        threshold, value = np.zeros((2, *shape), np.float32)
        for row, tree in enumerate(grown):
            here = np.arange(tree.node_count)
            leaf = tree.children_left < 0
            feature[row, here] = np.where(leaf, 0, tree.feature)
            left[row, here] = np.where(leaf, here, tree.children_left)
            right[row, here] = np.where(leaf, here, tree.children_right)
            threshold[row, here] = tree.threshold
            value[row, here] = options.learning_rate * tree.value[:, 0, 0]
        depth = min(options.depth, shape[1])  # few labels grow small trees
        return cls(feature, left, right, threshold, value, float(y.mean()), depth)

    def __call__(self, x: NDArray[np.float32]) -> Floats:
        """Return (B,) predictions for x (B, F)."""
        if self.depth <= DEEPEST:
            return self.base + self._complete.sums(x)
        starts = range(0, len(x), _CHUNK)
        return np.concatenate([self._sums(x[start : start + _CHUNK]) for start in starts])

    @cached_property
    def _complete(self) -> CompleteTrees:
        parts = self.feature, self.left, self.right, self.threshold, self.value
        return CompleteTrees.of(*parts, self.depth)

    def _sums(self, x: NDArray[np.float32]) -> Floats:
        columns = np.ascontiguousarray(x.T)
        rows = np.arange(len(x))
        total = np.full(len(x), self.base)
        for tree in range(len(self.feature)):
            node = np.zeros(len(x), np.int32)
            for _ in range(self.depth):
                low = columns[self.feature[tree, node], rows] <= self.threshold[tree, node]
                node = np.where(low, self.left[tree, node], self.right[tree, node])
            total += self.value[tree, node]
        return total

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the trees as arrays."""
        return {
            "tree_feature": self.feature,
            "tree_left": self.left,
            "tree_right": self.right,
            "tree_threshold": self.threshold,
            "tree_value": self.value,
            "tree_numbers": np.array([self.base, self.depth]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> Forest:
        """Take back what ``state`` returned."""
        base, depth = state["tree_numbers"]
        parts = [state[f"tree_{name}"] for name in ("left", "right", "feature")]
        left, right, feature = parts
        trees, nodes = left.shape
        if any(part.shape != (trees, nodes) or part.dtype.kind != "i" for part in parts):
            raise ValueError("trees whose parts do not fit together")
        if feature.min() < 0:
            raise ValueError(f"a tree asks for feature {feature.min()}")
        if not 0 <= min(left.min(), right.min()) <= max(left.max(), right.max()) < nodes:
            raise ValueError(f"a tree leads to a node beyond its {nodes}")
        if not 0 < depth <= nodes:
            raise ValueError(f"trees of {nodes} nodes cannot have depth {depth:g}")
        return cls(
            feature=feature,
            left=left,
            right=right,
            threshold=state["tree_threshold"],
            value=state["tree_value"],
            base=float(base),
            depth=int(depth),
        )


def few_rows(labels: int, options: TreesOptions) -> tuple[str, ...]:
    """Return what is done so that trees on many labels take no longer, for the card."""
    if options.rows * labels <= _ROWS:
        return ()
    return (f"each tree sees {_ROWS:,} random labels of {labels:,}",)


class Trees(Predictor):
    """Boosted regression trees on hand-made features of the graph, for ranks of the labels."""

    name: ClassVar[str] = "trees"
    Options: ClassVar[type[TreesOptions]] = TreesOptions
    options: TreesOptions
    min_labels: ClassVar[int] = 4

    def _fit(
        self, graphs: GraphBatch, scores: Floats, unlabelled: GraphBatch | None, progress: Progress
    ) -> None:
        self._scaling = fit_scaling(graphs, unlabelled, PROPAGATION)
        targets = normal_scores(scores)
        self._labels = MonotoneMap.through(targets, scores)
        x = self._scaling(graphs)
        held_out = cross_fitted(x, targets, self.options, self.seed)
        progress(2, 3)
        self._spread = float(np.sqrt(np.mean((targets - held_out) ** 2)))
        self._forest = Forest.grow(x, targets, self.options, self.seed)
        progress(3, 3)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        mean = np.concatenate([self._forest(self._scaling(part)) for part in portions(graphs)])
        return self._labels.prediction(mean, np.full(len(mean), self._spread))

    def notes(self) -> tuple[str, ...]:
        """Say of many labels how many a tree sees."""
        return few_rows(self.n_labels, self.options)

    def _state(self) -> Mapping[str, NDArray[Any]]:
        spread = {"spread": np.array([self._spread])}
        return self._scaling.state() | self._forest.state() | self._labels.state() | spread

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._scaling = FeatureScaling.restore(state)
        self._forest = Forest.restore(state)
        self._labels = MonotoneMap.restore(state)
        self._spread = float(state["spread"][0])


def cross_fitted(x: NDArray[np.float32], y: Floats, options: TreesOptions, seed: int) -> Floats:
    """Return (n,) predictions of each half of the labels by trees grown on the other half."""
    halves = np.array_split(np.random.default_rng(seed).permutation(len(y)), 2)
    found = np.empty(len(y))
    for one, other in (halves, halves[::-1]):
        found[one] = Forest.grow(x[other], y[other], options, seed)(x[one])
    return found
