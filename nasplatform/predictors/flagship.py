"""The platform's best predictor: Gaussian processes on closed-form signal propagation, and trees.

What tells good networks from bad ones with few labels is how signals and gradients travel through
them. That can be computed without training (``encodings.signal``); a Gaussian process learns from
the labels which part of it matters. Several views are averaged: labels as log distances to the
best and as ranks, all features and only the most telling ones, and boosted trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.gp import Process, portions
from nasplatform.predictors.kernels import Prior
from nasplatform.predictors.ranks import Floats, RankMap, log_gaps, normal_scores
from nasplatform.predictors.standard import Standard, seen_features
from nasplatform.predictors.trees import Forest, TreesOptions
from nasplatform.spaces.graph import GraphBatch

_SECONDARY = ("count", "width", "paths", "subsets", "extremes", "walks", "depth")


@dataclass(frozen=True)
class _View:
    """One way to look at the architectures and at the labels.

    without: groups of features that are left out.
    labels:  the scale on which labels are learnt.
    prior:   of the kernel.
    """

    without: tuple[str, ...]
    labels: Literal["gaps", "ranks"]
    prior: Prior


VIEWS = (
    _View((), "gaps", Prior()),
    _View((), "ranks", Prior()),
    _View(_SECONDARY, "gaps", Prior(group=2.5, feature=0.5)),
)


class FlagshipOptions(BaseModel):
    """Options of ``default``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: int = Field(len(VIEWS), ge=1, le=len(VIEWS), description="Gaussian processes averaged")
    steps: int = Field(60, ge=1, description="of Adam on the parameters of each kernel")
    trees: int = Field(200, ge=0, description="boosted trees; 0 for none")
    tree_weight: float = Field(0.15, ge=0, le=1, description="share of the trees in the mean")


@dataclass(frozen=True)
class _Member:
    """A fitted view: its features, its process, and its labels on the common scale."""

    standard: Standard
    process: Process
    common: RankMap

    def predict(self, x: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (B,) on the common scale."""
        mean, std = self.process.predict(x)
        found = self.common.prediction(mean, std)
        return found.mean, found.std

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the view as arrays."""
        common = _prefixed("common.", self.common.state())
        return self.standard.state() | self.process.state() | common

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> _Member:
        """Take back what ``state`` returned."""
        common = RankMap.restore(_within(state, "common."))
        return cls(Standard.restore(state), Process.restore(state), common)


class Flagship(Predictor):
    """Gaussian processes on closed-form signal propagation and graph features, with trees."""

    name: ClassVar[str] = "default"
    Options: ClassVar[type[FlagshipOptions]] = FlagshipOptions
    options: FlagshipOptions
    min_labels: ClassVar[int] = 4

    def _fit(
        self,
        graphs: GraphBatch,
        scores: Floats,
        unlabelled: GraphBatch | None,
        progress: Progress,
    ) -> None:
        common, ranks = log_gaps(scores), normal_scores(scores)
        self._labels = RankMap.through(common, scores)
        self._ranks = RankMap.through(ranks, common)
        order = np.random.default_rng(self.seed).permutation(len(scores))
        views = VIEWS[: self.options.views]
        steps = self.options.steps * len(views) + 1
        seen = seen_features(graphs, unlabelled)
        self._members = []
        for place, view in enumerate(views):
            standard = Standard.of(seen, view.without)
            targets = common if view.labels == "gaps" else ranks
            process = Process.fit(
                standard(graphs)[order],
                targets[order],
                standard.group,
                view.prior,
                self.options.steps,
                _shifted(progress, place * self.options.steps, steps),
            )
            self._members.append(_Member(standard, process, RankMap.through(targets, common)))
        self._forest = self._grown(graphs, scores)
        progress(steps, steps)

    def _grown(self, graphs: GraphBatch, scores: Floats) -> Forest | None:
        if not self.options.trees or not self.options.tree_weight:
            return None
        x, options = self._members[0].standard(graphs), TreesOptions(trees=self.options.trees)
        return Forest.grow(x, normal_scores(scores), options, self.seed)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        means, spreads = zip(*(self._scored(part) for part in portions(graphs)), strict=True)
        return self._labels.prediction(np.concatenate(means), np.concatenate(spreads))

    def _scored(self, graphs: GraphBatch) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (B,) on the common scale."""
        found = [member.predict(member.standard(graphs)) for member in self._members]
        mean = np.mean([one for one, _ in found], axis=0)
        spread = np.sqrt(np.mean([std**2 for _, std in found], axis=0))
        if self._forest is not None:
            ranked = self._ranks.label(self._forest(self._members[0].standard(graphs)))
            mean = mean + self.options.tree_weight * (ranked - mean)
        return mean, spread

    def _state(self) -> Mapping[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for place, member in enumerate(self._members):
            arrays |= _prefixed(f"view{place}.", member.state())
        if self._forest is not None:
            arrays |= self._forest.state()
        arrays |= _prefixed("ranks.", self._ranks.state())
        return arrays | self._labels.state()

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        views = range(self.options.views)
        self._members = [_Member.restore(_within(state, f"view{place}.")) for place in views]
        self._forest = Forest.restore(state) if "tree_value" in state else None
        self._ranks = RankMap.restore(_within(state, "ranks."))
        self._labels = RankMap.restore(state)


def _shifted(progress: Progress, past: int, steps: int) -> Progress:
    """Tell the steps of one part as steps of the whole."""
    return lambda done, total: progress(past + done, steps)


def _prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {prefix + name: array for name, array in arrays.items()}


def _within(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
