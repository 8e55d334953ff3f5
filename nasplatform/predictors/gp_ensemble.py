"""The platform's best predictor: Gaussian processes on closed-form signal propagation, and trees.

What tells good networks from bad ones with few labels is how signals and gradients travel through
them. That can be computed without training (``encodings.signal_propagation``); a Gaussian process
learns from the labels which part of it matters, and starts from what other data sets taught where
that is known (``pretrained_prior``). The labels are learnt on a common scale, the mean of their log
distances to the best and the normal scores of their ranks, both standardised. A process on each of
the two is averaged with boosted trees. That on distances takes them for a linear function of what
the other data sets say, besides: far from all labels a process alone expects their mean, and a
search would go there. Where nodes have numbers and a place, as in chains and
transformers, the decisions themselves say as much (``flat_numbers``): the second process reads
these in place of the features, both learn log distances, and the better it foretells left-out
labels the more a process counts. From a hundred labels and more on, graph networks that
imitate this mean on unlabelled architectures before they see the labels (``distilled_gnn``) join
in, where there is a graph to read: not for chains. What no signal crosses needs no label to be
known as bad as the worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.encodings.active_subgraph import active_subgraphs, is_connected
from nasplatform.encodings.node_numbers import has_flat_numbers, has_numbers
from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.distilled_gnn import (
    EPOCHS_LABELS,
    EPOCHS_TEACHER,
    DistilledGNN,
    distill,
)
from nasplatform.predictors.feature_scaling import FeatureScaling, FlatScaling, fit_scaling
from nasplatform.predictors.gp import Process, bounds, portions
from nasplatform.predictors.kernels import Prior
from nasplatform.predictors.pretrained_prior import PretrainedPrior, pretrained_prior_for
from nasplatform.predictors.serialization import prefixed, within
from nasplatform.predictors.target_maps import Floats, MonotoneMap, log_gaps, normal_scores
from nasplatform.predictors.trees import Forest, TreesOptions, few_rows
from nasplatform.spaces.graph import GraphBatch

_SCALES = 2  # of labels, a process each: log distances to the best, and ranks
_GUESSED = (True, False)  # that source tasks guess the labels; both so would err alike
_TRUST = -4.0  # power of the error of left-out labels that a process on flat numbers is weighed by
_TAUGHT = 100  # labels from which graph networks are worth their time
_EPOCHS = EPOCHS_TEACHER + EPOCHS_LABELS
_POOL = 6000  # unlabelled architectures on which a graph network imitates the rest, and two a label
_LARGEST_POOL = 16_000


class GPEnsembleOptions(BaseModel):
    """Options of ``default``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(60, ge=1, description="of Adam on the parameters of each kernel")
    trees: int = Field(200, ge=0, description="boosted trees; 0 for none")
    tree_weight: float = Field(0.2, ge=0, le=1, description="share of the trees in the mean")
    distilled_gnns: int = Field(2, ge=0, description="graph networks; they need unlabelled graphs")
    pretrained: bool = Field(True, description="start from source tasks: digits and photographs")


@dataclass(frozen=True)
class _Reader:
    """What the processes and the trees see of an architecture."""

    scaling: FeatureScaling
    pretrained: PretrainedPrior | None
    flat: FlatScaling | None

    @classmethod
    def of(cls, graphs: GraphBatch, unlabelled: GraphBatch | None, pretrained: bool) -> _Reader:
        """Read with the prior for these graphs, else on the scale of what is at hand."""
        prior = pretrained_prior_for(graphs) if pretrained else None
        scaling = prior.scaling if prior else fit_scaling(graphs, unlabelled)
        if prior is not None or not has_flat_numbers(graphs):
            return cls(scaling, prior, None)
        flat = FlatScaling.of(graphs, unlabelled)
        return cls(scaling, None, flat if len(flat.columns) else None)

    def __call__(self, graphs: GraphBatch) -> NDArray[np.float32]:
        """Return (B, F + T) float32: features, then how well the architectures did elsewhere.

        In place of the latter flat numbers, where these are read.
        """
        x = self.scaling(graphs)
        if self.flat is not None:
            return np.concatenate([x, self.flat(graphs)], axis=1)
        return x if self.pretrained is None else np.concatenate([x, self.pretrained(x)], axis=1)

    @property
    def groups(self) -> NDArray[np.intp]:
        """The group of each column, (F + T,)."""
        groups, further = self.scaling.group, 0
        if self.flat is not None:
            further = len(self.flat.columns)
        elif self.pretrained is not None:
            further = self.pretrained.source_tasks
        return np.concatenate([groups, np.full(further, groups.max() + 1)])

    @property
    def views(self) -> tuple[slice, slice]:
        """Which columns either process sees: the second one flat numbers, where these are read."""
        features, every = len(self.scaling.group), len(self.groups)
        if self.flat is not None:
            return slice(0, features), slice(features, every)
        return slice(0, every), slice(0, every)

    def prior(self, view: slice, guessed: bool) -> Prior:
        """What is believed before any label of a kernel that sees these columns.

        guessed: that the label is also a linear function of how well architectures did elsewhere,
            which holds as well far from all labels.
        """
        if self.pretrained is None:
            return Prior()
        weights = self.pretrained.weights.astype(np.float64)
        source_tasks = view.stop - len(weights)
        # All source tasks together may weigh a third of what the features weigh.
        learnt = np.log(np.exp(weights).sum() / (3 * source_tasks))
        every = np.concatenate([weights, np.full(source_tasks, learnt)])
        return Prior(weights=every, guesses=source_tasks if guessed else 0)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the reader as arrays."""
        if self.pretrained is not None:
            return prefixed("prior.", self.pretrained.state())
        return self.scaling.state() | (self.flat.state() if self.flat is not None else {})

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> _Reader:
        """Take back what ``state`` returned."""
        pretrained = within(state, "prior.")
        if not pretrained:
            flat = FlatScaling.restore(state) if "flat_columns" in state else None
            return cls(FeatureScaling.restore(state), None, flat)
        prior = PretrainedPrior.restore(pretrained)
        return cls(prior.scaling, prior, None)


class _Steps:
    """Counts the steps of several parts as steps of the whole."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        """One step further."""
        self._done += 1
        self._progress(self._done, self._total)

    def inner(self, done: int, total: int) -> None:
        """Progress of a part that counts for itself."""
        self()


class GPEnsemble(Predictor):
    """Gaussian processes on closed-form signal propagation, with trees and distilled networks."""

    name: ClassVar[str] = "default"
    Options: ClassVar[type[GPEnsembleOptions]] = GPEnsembleOptions
    options: GPEnsembleOptions
    min_labels: ClassVar[int] = 4

    def quick(self) -> GPEnsemble:
        """Return one without distilled networks, which take most of the time."""
        return GPEnsemble(self.options.model_copy(update={"distilled_gnns": 0}), self.seed)

    def _fit(
        self, graphs: GraphBatch, scores: Floats, unlabelled: GraphBatch | None, progress: Progress
    ) -> None:
        self._reader = _Reader.of(graphs, unlabelled, self.options.pretrained)
        gaps, ranks = _standardised(log_gaps(scores)), _standardised(normal_scores(scores))
        learnt = gaps, ranks if self._reader.flat is None else gaps
        common = (learnt[0] + learnt[1]) / 2
        self._labels = MonotoneMap.through(common, scores)
        # Labels of disconnected architectures, where there are any, tell more.
        self._disconnected = float(common.min()) if is_connected(graphs).all() else np.inf
        order = np.random.default_rng(self.seed).permutation(len(scores))
        taught = self.options.distilled_gnns if _distillable(graphs, unlabelled) else 0
        tell = _Steps(progress, self.options.steps * _SCALES + 1 + taught * _EPOCHS)
        x = self._reader(graphs)
        self._processes = [
            Process.fit(
                x[order, view],
                targets[order],
                _without_gaps(self._reader.groups[view]),
                self._reader.prior(view, guessed),
                self.options.steps,
                tell.inner,
            )
            for targets, view, guessed in zip(learnt, self._reader.views, _GUESSED, strict=True)
        ]
        self._forest = self._grown(x[:, self._reader.views[0]], ranks)
        tell()
        self._distilled = []
        if taught and unlabelled is not None:
            self._distilled = self._distill(taught, graphs, common, unlabelled, tell)

    def _distill(
        self, count: int, graphs: GraphBatch, labels: Floats, unlabelled: GraphBatch, tell: _Steps
    ) -> list[DistilledGNN]:
        rng = np.random.default_rng([self.seed, 1])
        size = min(len(unlabelled), _POOL + 2 * len(labels), _LARGEST_POOL)
        pool = unlabelled[rng.choice(len(unlabelled), size, replace=False)]
        answers = self._bounded(pool, self._taught(pool)[0])
        seeds = [int(seed) for seed in rng.integers(2**31, size=count)]
        return [distill((graphs, labels), (pool, answers), seed, tell) for seed in seeds]

    def _grown(self, x: NDArray[np.float32], ranks: Floats) -> Forest | None:
        if not self.options.trees or not self.options.tree_weight:
            return None
        return Forest.grow(x, ranks, TreesOptions(trees=self.options.trees), self.seed)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        means, spreads = zip(*(self._scored(part) for part in portions(graphs)), strict=True)
        return self._labels.prediction(np.concatenate(means), np.concatenate(spreads))

    def _scored(self, graphs: GraphBatch) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (B,) on the common scale."""
        mean, spread = self._taught(graphs)
        if self._distilled:
            # Distilled networks gain more from labels than their teacher does.
            share = 0.5 * self.n_labels / (self.n_labels + 100)
            said = np.mean([network.score(graphs) for network in self._distilled], axis=0)
            mean = mean + share * (said - mean)
        return self._bounded(graphs, mean), spread

    def _taught(self, graphs: GraphBatch) -> tuple[Floats, Floats]:
        """Return what processes and trees say, as ``_scored``."""
        x, views = self._reader(graphs), self._reader.views
        found = [
            process.predict(x[:, view])
            for process, view in zip(self._processes, views, strict=True)
        ]
        mean = np.average([one for one, _ in found], 0, self._weights)
        spread = np.sqrt(np.average([std**2 for _, std in found], 0, self._weights))
        if self._forest is not None:
            told = self._forest(x[:, views[0]])
            mean = mean + self.options.tree_weight * (told - mean)
        return mean, spread

    @property
    def _weights(self) -> Floats | None:
        """How much each process counts; None for alike, as where they learn unlike labels."""
        if self._reader.flat is None:
            return None
        return np.array([process.error**_TRUST for process in self._processes])

    def _bounded(self, graphs: GraphBatch, mean: Floats) -> Floats:
        """Return means (B,), of disconnected architectures no better than what is known of them."""
        return np.where(is_connected(graphs), mean, np.minimum(mean, self._disconnected))

    def notes(self) -> tuple[str, ...]:
        """Say of many labels what is done so that they fit."""
        return (*bounds(self.n_labels), *few_rows(self.n_labels, TreesOptions()))

    def _state(self) -> Mapping[str, NDArray[Any]]:
        arrays = self._reader.state()
        for place, process in enumerate(self._processes):
            arrays |= prefixed(f"process{place}.", process.state())
        for place, network in enumerate(self._distilled):
            arrays |= prefixed(f"distilled_gnn{place}.", network.state())
        if self._forest is not None:
            arrays |= self._forest.state()
        return arrays | self._labels.state() | {"disconnected": np.array([self._disconnected])}

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._reader = _Reader.restore(state)
        parts = [within(state, f"process{place}.") for place in range(_SCALES)]
        self._processes = [Process.restore(part) for part in parts]
        taught = [
            within(state, f"distilled_gnn{place}.") for place in range(self.options.distilled_gnns)
        ]
        self._distilled = [DistilledGNN.restore(one) for one in taught if one]
        self._forest = Forest.restore(state) if "tree_value" in state else None
        self._labels = MonotoneMap.restore(state)
        self._disconnected = float(state["disconnected"][0])


def _distillable(graphs: GraphBatch, unlabelled: GraphBatch | None) -> bool:
    """Whether graph networks are worth their time: enough graphs, and wiring to read.

    The features tell all of a chain, and of graphs whose nodes have numbers and a place.
    """
    if unlabelled is None or min(len(graphs), len(unlabelled)) < _TAUGHT:
        return False
    wired = bool((active_subgraphs(graphs).edges.sum(0) > 1).any())
    return wired and not (graphs.positional and has_numbers(graphs))


def _without_gaps(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.unique(groups, return_inverse=True)[1].astype(np.intp)


def _standardised(values: Floats) -> Floats:
    standardised: Floats = (values - values.mean()) / values.std()
    return standardised
