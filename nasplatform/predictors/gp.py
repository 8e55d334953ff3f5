"""A Gaussian process on features of the graph: the strongest method where labels are few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import solve_triangular
from scipy.stats import norm

from nasplatform.memory import require_memory
from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.predictors.feature_scaling import FeatureScaling, fit_scaling
from nasplatform.predictors.kernels import (
    EXACT,
    INDUCING,
    AnyFloats,
    Kernel,
    Posterior,
    Prior,
    condition,
    fit_kernel,
    squared_distances,
)
from nasplatform.predictors.target_maps import Floats, MonotoneMap, log_gaps, normal_scores
from nasplatform.spaces.graph import GraphBatch

PROPAGATION = ("differences", "modes", "gradients")
_CHUNK = 8192  # architectures scored at once
_TUNED = 1000  # labels from which the kernel is learnt, at most
_SPREAD = 1000  # labels from which the standard deviation is computed, at most


@dataclass(frozen=True)
class Process:
    """A fitted Gaussian process with what its predictions need, on labels of any scale.

    posterior: the process given the standardised labels.
    centre, scale: mean and standard deviation of the labels.
    inverse:   (m, m) lower triangular inverse factor of the first m labels, for the variance.
    stretch:   factor on the standard deviation that left-out labels ask for.
    error:     mean squared error of left-out labels, in units of their variance.
    """

    posterior: Posterior
    centre: float
    scale: float
    inverse: NDArray[np.float32]
    stretch: float
    error: float

    @classmethod
    def fit(
        cls,
        x: NDArray[np.float32],
        labels: Floats,
        groups: NDArray[np.intp],
        prior: Prior,
        steps: int,
        progress: Progress,
    ) -> Process:
        """Fit to x (n, F) and labels (n,); rows are in random order.

        Raises PredictorError before memory is taken that there is not.
        """
        require_memory(memory_of(len(labels)), f"a Gaussian process on {len(labels):,} labels")
        centre, scale = float(labels.mean()), float(labels.std())
        y = (labels - centre) / scale
        wide = x.astype(np.float64)
        few = slice(0, _TUNED)
        kernel = fit_kernel(
            wide[few], y[few], groups, prior, steps, progress=lambda step: progress(step, steps)
        )
        posterior, left = condition(kernel, wide, y)
        surprise = np.abs(left.labels - left.mean) / np.sqrt(left.variance)
        stretch = float(np.quantile(surprise, 0.9) / norm.ppf(0.95))
        m = min(len(posterior.x), _SPREAD)
        inverse = solve_triangular(posterior.factor[:m, :m], np.eye(m), lower=True)
        # Few left-out labels say little about their own spread, and the kernel has seen them.
        trust = len(y) / (len(y) + 10)
        stretch = float(max(stretch, 0.5) ** trust * (1 + 1.5 / np.sqrt(len(y))))
        error = float(np.mean((left.labels - left.mean) ** 2))
        return cls(posterior, centre, scale, inverse.astype(np.float32), stretch, error)

    def predict(self, x: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (B,) of a new label at x (B, F)."""
        kernel, alpha = self.posterior.kernel, self.posterior.alpha
        known, squares = self._known
        m = len(self.inverse)
        means, variances = [], []
        for start in range(0, len(x), _CHUNK):
            part = x[start : start + _CHUNK]
            k = kernel.of_distances(squared_distances(kernel.scaled(part), known, squares))
            k = kernel.with_guesses(k, part, self._plain)
            means.append(k @ alpha)
            explained = k[:, :m] @ self.inverse.T
            left = kernel.variances(part) - np.einsum("bm,bm->b", explained, explained)
            variances.append(left)
        variance = np.maximum(np.concatenate(variances).astype(np.float64), 0) + kernel.noise
        mean: Floats = np.concatenate(means) * self.scale + self.centre
        return mean, np.sqrt(variance) * self.scale * self.stretch

    @cached_property
    def _plain(self) -> AnyFloats:
        """Features (n, F) of the labelled in single precision."""
        plain: AnyFloats = self.posterior.x.astype(np.float32)
        return plain

    @cached_property
    def _known(self) -> tuple[AnyFloats, AnyFloats]:
        """Scaled features (n, F) of the labelled in single precision, their squares (n,)."""
        known = self.posterior.kernel.scaled(self._plain)
        return known, (known**2).sum(1)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the process as arrays."""
        return {
            **self.posterior.kernel.state(),
            "known": self.posterior.x.astype(np.float32),
            "alpha": self.posterior.alpha,
            "inverse": self.inverse,
            "label_scale": np.array([self.centre, self.scale, self.stretch, self.error]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> Process:
        """Take back what ``state`` returned."""
        kernel = Kernel.restore(state)
        known = state["known"].astype(np.float64)
        posterior = Posterior(kernel, known, state["alpha"], np.empty((0, 0)))
        centre, scale, stretch, error = (float(value) for value in state["label_scale"])
        return cls(posterior, centre, scale, state["inverse"], stretch, error)


def _standardised(labels: Floats) -> Floats:
    standardised: Floats = (labels - labels.mean()) / labels.std()
    return standardised


_SCALES: Mapping[str, Callable[[Floats], Floats]] = {
    "ranks": normal_scores,
    "gaps": log_gaps,
    "values": _standardised,
}


def memory_of(labels: int) -> int:
    """Return the bytes that a process on so many labels takes at most, features aside.

    Six matrices of double precision, between the labels or, of many, those it is projected on.
    """
    return 6 * 8 * (labels if labels <= EXACT else INDUCING) ** 2


def bounds(labels: int) -> tuple[str, ...]:
    """Return what is done so that many labels fit into memory, for the card."""
    if labels <= EXACT:
        return ()
    return (
        f"of more than {EXACT:,} labels the Gaussian process is a projected one: all {labels:,} "
        f"count, through their covariances with {INDUCING:,} of them",
    )


class GPOptions(BaseModel):
    """Options of ``gp``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Literal["ranks", "gaps", "values"] = Field(
        "ranks",
        description="learn normal scores of the ranks, log distances to the best, or the labels as "
        "they are, as suits a cost",
    )
    propagation: bool = Field(False, description="also read the closed-form propagation features")
    steps: int = Field(60, ge=1, description="of Adam on the kernel's parameters")


class GP(Predictor):
    """Gaussian process with a length scale per feature on hand-made features of the graph."""

    name: ClassVar[str] = "gp"
    Options: ClassVar[type[GPOptions]] = GPOptions
    options: GPOptions
    min_labels: ClassVar[int] = 3

    def _fit(
        self, graphs: GraphBatch, scores: Floats, unlabelled: GraphBatch | None, progress: Progress
    ) -> None:
        without = () if self.options.propagation else PROPAGATION
        self._scaling = fit_scaling(graphs, unlabelled, without)
        targets = _SCALES[self.options.labels](scores)
        self._labels = MonotoneMap.through(targets, scores)
        order = np.random.default_rng(self.seed).permutation(len(scores))
        self._process = Process.fit(
            self._scaling(graphs)[order],
            targets[order],
            self._scaling.group,
            Prior(),
            self.options.steps,
            progress,
        )

    def _predict(self, graphs: GraphBatch) -> Prediction:
        parts = [self._process.predict(self._scaling(part)) for part in portions(graphs)]
        mean = np.concatenate([part[0] for part in parts])
        return self._labels.prediction(mean, np.concatenate([part[1] for part in parts]))

    def notes(self) -> tuple[str, ...]:
        """Say of many labels that the process is projected."""
        return bounds(self.n_labels)

    def _state(self) -> Mapping[str, NDArray[Any]]:
        return self._scaling.state() | self._process.state() | self._labels.state()

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._scaling = FeatureScaling.restore(state)
        self._process = Process.restore(state)
        self._labels = MonotoneMap.restore(state)


def portions(graphs: GraphBatch, size: int = 50_000) -> list[GraphBatch]:
    """Cut a large batch into parts whose features fit into memory; a smaller one stays itself."""
    if len(graphs) <= size:
        return [graphs]
    return [graphs[start : start + size] for start in range(0, len(graphs), size)]
