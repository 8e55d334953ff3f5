"""A predictor in one file: ridge regression on any encoding and the log of the costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.encodings import get_encoding
from nasplatform.predictors import Prediction, Predictor


class RidgeOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    strength: float = Field(1.0, gt=0, description="of the penalty")
    encoding: str = Field("adjacency", description="name of a registered encoding")


class Ridge(Predictor):
    """Ridge regression on an encoding and the log of parameters and FLOPs."""

    name: ClassVar[str] = "ridge"
    Options: ClassVar[type[RidgeOptions]] = RidgeOptions

    def _features(self, graphs: Any) -> NDArray[np.float64]:
        costs = np.log1p(np.stack([graphs.total_params, graphs.total_flops], axis=1))
        return np.hstack([get_encoding(self.options.encoding)(graphs), costs, np.ones_like(costs)])

    def _fit(self, graphs: Any, scores: Any, unlabelled: Any, progress: Any) -> None:
        x = self._features(graphs)
        self.centre = scores.mean()
        penalty = self.options.strength * np.eye(x.shape[1])
        self.weights = np.linalg.solve(x.T @ x + penalty, x.T @ (scores - self.centre))
        self.std = max(float(np.std(scores - self.centre - x @ self.weights)), 1e-9)
        progress(1, 1)

    def _predict(self, graphs: Any) -> Prediction:
        mean = self.centre + self._features(graphs) @ self.weights
        return Prediction(mean, np.full(len(mean), self.std))

    def _state(self) -> Mapping[str, NDArray[Any]]:
        return {"weights": self.weights, "numbers": np.array([self.centre, self.std])}

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.weights = state["weights"]
        self.centre, self.std = state["numbers"].tolist()
