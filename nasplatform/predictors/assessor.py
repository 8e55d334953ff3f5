"""Semi-supervised assessor (Tang et al., CVPR 2020): auto-encoder, graph of relations, GCN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.predictors.assessor_network import Assessment, train
from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.calibration import Rows, cross_fitted, slope_and_spread
from nasplatform.predictors.early_stopping import EARLY_STOPPING
from nasplatform.predictors.gp import portions
from nasplatform.predictors.target_maps import Floats, MonotoneMap, normal_scores
from nasplatform.spaces.graph import GraphBatch


class AssessorOptions(BaseModel):
    """No official code exists: layers, similarity and schedule are a reading of the abstract.

    ``unlabelled``, ``graph`` and ``autoencoder`` are the method's three ideas; each can be
    switched off to see what it brings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(80, ge=1, description="passes over the labels")
    batch_size: int = Field(256, ge=8, description="labelled architectures of a mini-batch")
    learning_rate: float = Field(2e-3, gt=0, description="highest of AdamW's one-cycle schedule")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    width: int = Field(256, ge=4, description="units of the hidden layers")
    code: int = Field(64, ge=2, description="length of a representation")
    neighbours: int = Field(8, ge=1, description="edges of an architecture in the relation graph")
    reconstruction: float = Field(0.5, ge=0, lt=1, description="share of the loss, lambda")
    unlabelled: bool = Field(True, description="mix unlabelled architectures into each mini-batch")
    graph: bool = Field(True, description="pass messages between similar architectures")
    autoencoder: bool = Field(True, description="learn to reconstruct the architectures")
    early_stopping: float = Field(0.0, ge=0, lt=1, description=EARLY_STOPPING)
    anchors: int = Field(2000, ge=8, description="architectures whose representations are kept")


class Assessor(Predictor):
    """Auto-encoder and graph convolutions over similar architectures, labelled and not."""

    name: ClassVar[str] = "assessor"
    Options: ClassVar[type[AssessorOptions]] = AssessorOptions
    options: AssessorOptions
    min_labels: ClassVar[int] = 4

    def _fit(
        self, graphs: GraphBatch, scores: Floats, unlabelled: GraphBatch | None, progress: Progress
    ) -> None:
        targets = normal_scores(scores)
        others = unlabelled if self.options.unlabelled else None
        steps = 3 * self.options.epochs

        def trained(rows: Rows, turn: int) -> Assessment:
            past = turn * self.options.epochs
            return train(
                graphs[rows],
                targets[rows],
                others,
                self.options,
                self.seed,
                lambda epoch: progress(past + epoch, steps),
            )

        held_out = cross_fitted(
            lambda learnt, asked, turn: trained(learnt, turn).score(graphs[asked]),
            targets,
            self.seed,
        )
        self._slope, self._spread = slope_and_spread(held_out, targets)
        self._assessment = trained(np.arange(len(scores)), 2)
        self._ranks = MonotoneMap.through(targets, scores)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        scores = [self._assessment.score(part) for part in portions(graphs)]
        mean = self._slope * np.concatenate(scores)
        return self._ranks.prediction(mean, np.full(len(mean), self._spread))

    def _state(self) -> Mapping[str, NDArray[Any]]:
        calibration = {"calibration": np.array([self._slope, self._spread])}
        return self._assessment.state() | self._ranks.state() | calibration

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._assessment = Assessment.restore(state, self.options)
        self._ranks = MonotoneMap.restore(state)
        self._slope, self._spread = (float(value) for value in state["calibration"])
