"""The strong simple baseline: a Gaussian process and boosted trees, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.feature_scaling import FeatureScaling, fit_scaling
from nasplatform.predictors.gp import PROPAGATION, Process, bounds, portions
from nasplatform.predictors.kernels import Prior
from nasplatform.predictors.target_maps import Floats, MonotoneMap, normal_scores
from nasplatform.predictors.trees import Forest, TreesOptions, few_rows
from nasplatform.spaces.graph import GraphBatch

_STEPS = 30  # of the search for the kernel


class GPTreesOptions(BaseModel):
    """Options of ``gp-trees``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(150, ge=1, description="boosted trees")
    tree_weight: float = Field(0.3, ge=0, le=1, description="share of the trees in the mean")


class GPTrees(Predictor):
    """Gaussian process and boosted trees on hand-made graph features, averaged."""

    name: ClassVar[str] = "gp-trees"
    Options: ClassVar[type[GPTreesOptions]] = GPTreesOptions
    options: GPTreesOptions
    min_labels: ClassVar[int] = 4

    def _fit(
        self, graphs: GraphBatch, scores: Floats, unlabelled: GraphBatch | None, progress: Progress
    ) -> None:
        self._scaling = fit_scaling(graphs, unlabelled, PROPAGATION)
        targets = normal_scores(scores)
        self._labels = MonotoneMap.through(targets, scores)
        order = np.random.default_rng(self.seed).permutation(len(scores))
        x, y = self._scaling(graphs)[order], targets[order]
        self._process = Process.fit(x, y, self._scaling.group, Prior(), _STEPS, progress)
        self._forest = Forest.grow(x, y, TreesOptions(trees=self.options.trees), self.seed)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        means, spreads = [], []
        for part in portions(graphs):
            x = self._scaling(part)
            mean, spread = self._process.predict(x)
            means.append(mean + self.options.tree_weight * (self._forest(x) - mean))
            spreads.append(spread)
        return self._labels.prediction(np.concatenate(means), np.concatenate(spreads))

    def notes(self) -> tuple[str, ...]:
        """Say of many labels what is done so that they fit."""
        return (*bounds(self.n_labels), *few_rows(self.n_labels, TreesOptions()))

    def _state(self) -> Mapping[str, NDArray[Any]]:
        parts = (self._scaling, self._process, self._forest, self._labels)
        return {name: array for part in parts for name, array in part.state().items()}

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._scaling = FeatureScaling.restore(state)
        self._process = Process.restore(state)
        self._forest = Forest.restore(state)
        self._labels = MonotoneMap.restore(state)
