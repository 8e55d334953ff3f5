"""What one data set taught about the cells of a space, for learning another with fewer labels.

Two things carry over. Which features matter: centres for the weights of a Gaussian process's
kernel, in place of weights that are all alike. And how well a cell learnt there: a small network
tells it from the features, as further features. The files beside this module were learnt from
trainings on the embedded digits and on small photographs of CIFAR-100, seconds each
(``analysis/pretrained_prior.py``); no measurement of a benchmark is in them, though the learning
rates of these trainings were chosen for how well they agree with CIFAR-10 accuracies. They serve
NAS-Bench-101 and NAS-Bench-201 cells in the benchmarks' own skeletons; those of the embedded tables
are others, so that no predictor meets there the very labels that taught it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from nasplatform.encodings.cache import width_of
from nasplatform.predictors.feature_scaling import FeatureScaling
from nasplatform.spaces.graph import GraphBatch

LAYERS = 3  # of the network


@dataclass(frozen=True)
class PretrainedPrior:
    """What the source tasks of a data set tell about F features.

    scaling: the features, and the scale on which the source tasks hold.
    weights:  (F,) logarithms of the weights of the kernel.
    layers:   weight (I, O) and bias (O,) of each layer; SiLU stands between two. The network
        maps standardised features to T measurements, standardised.
    """

    scaling: FeatureScaling
    weights: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (B, T) how well architectures with features x (B, F) did there."""
        for weight, bias in self.layers[:-1]:
            x = x @ weight
            x += bias
            x /= 1 + np.exp(-x)
        weight, bias = self.layers[-1]
        found: NDArray[np.float32] = x @ weight + bias
        return found

    @property
    def source_tasks(self) -> int:
        """Number of columns T."""
        return len(self.layers[-1][1])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the prior as arrays."""
        arrays: dict[str, NDArray[Any]] = {**self.scaling.state(), "weights": self.weights}
        for place, (weight, bias) in enumerate(self.layers):
            arrays |= {f"layer{place}.weight": weight, f"layer{place}.bias": bias}
        return arrays

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> PretrainedPrior:
        """Take back what ``state`` returned."""
        layers = tuple(
            (state[f"layer{place}.weight"], state[f"layer{place}.bias"]) for place in range(LAYERS)
        )
        return cls(FeatureScaling.restore(state), state["weights"], layers)


def kind_of(graphs: GraphBatch) -> dict[str, Any]:
    """Return what must agree for source tasks of some graphs to hold for others, as JSON.

    graphs: one at least: width and resolution of the skeleton are those of what leaves the first
    cell and the last.
    """
    ends = [0, -1]
    return {
        "vocabulary": [operation.name for operation in graphs.vocabulary],
        "stages": list(graphs.stages),
        "channels": graphs.channels[0, ends, -1].tolist(),
        "resolution": graphs.resolution[0, ends, -1].tolist(),
        "features": width_of(graphs),
    }


def pretrained_prior_for(graphs: GraphBatch) -> PretrainedPrior | None:
    """Return the prior that holds for these graphs, or None."""
    kind = kind_of(graphs)
    return next((prior for known, prior in _shipped() if known == kind), None)


@cache
def _shipped() -> list[tuple[dict[str, Any], PretrainedPrior]]:
    """Return what agrees with ``kind_of`` of the graphs that each file serves, and its prior."""
    folder = files("nasplatform.predictors")
    paths = [path for path in folder.iterdir() if path.name.endswith(".safetensors")]
    return [_read(str(path)) for path in sorted(paths, key=lambda path: path.name)]


def _read(path: str) -> tuple[dict[str, Any], PretrainedPrior]:
    with safe_open(path, framework="numpy") as stored:
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        kind: dict[str, Any] = json.loads(stored.metadata()["kind"])
    return kind, PretrainedPrior.restore(arrays)
