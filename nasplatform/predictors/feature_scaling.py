"""Which features a fitted predictor reads, and on which scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings.cache import Features, columns_of, features_of
from nasplatform.encodings.node_numbers import flat_numbers
from nasplatform.errors import PredictorError
from nasplatform.spaces.graph import GraphBatch

SEEN = 20_000  # architectures from which centres and scales are learnt
_VARIES = 1e-5  # least standard deviation of what tells architectures apart
_FAR = 8.0  # standard deviations beyond which a feature says no more


@dataclass(frozen=True)
class FeatureScaling:
    """Columns that vary, with their centres and scales.

    columns: (F,) places in the features of an architecture.
    group:   (F,) the group of each, counted without gaps.
    centre, scale: (F,) float32.
    """

    columns: NDArray[np.intp]
    group: NDArray[np.intp]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, features: Features, without: tuple[str, ...] = ()) -> FeatureScaling:
        """Learn from features of at least two architectures, leaving some groups out."""
        seen = features.values[:: -(-len(features.values) // SEEN)]
        centre, scale = seen.mean(0, dtype=np.float64), seen.std(0, dtype=np.float64)
        left_out = [features.names.index(name) for name in without if name in features.names]
        wanted = (scale > _VARIES) & ~np.isin(features.group, left_out)
        columns = np.flatnonzero(wanted)
        if not len(columns):
            raise PredictorError(
                "all architectures have the same features: nothing tells them apart"
            )
        _, group = np.unique(features.group[columns], return_inverse=True)
        kept = centre[columns].astype(np.float32), scale[columns].astype(np.float32)
        return cls(columns, group.astype(np.intp), *kept)

    def __call__(self, graphs: GraphBatch) -> NDArray[np.float32]:
        """Return (B, F) float32 standardised features."""
        values = columns_of(graphs, self.columns)
        values -= self.centre
        values /= self.scale
        return np.clip(values, -_FAR, _FAR, out=values)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the scaling as arrays."""
        return {
            "columns": self.columns.astype(np.int64),
            "column_group": self.group.astype(np.int64),
            "centre": self.centre,
            "scale": self.scale,
        }

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> FeatureScaling:
        """Take back what ``state`` returned."""
        columns, group = state["columns"].astype(np.intp), state["column_group"].astype(np.intp)
        return cls(columns, group, state["centre"], state["scale"])


@dataclass(frozen=True)
class FlatScaling:
    """Flat numbers that vary, each once, with their centres and scales, (P,) each."""

    columns: NDArray[np.intp]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, graphs: GraphBatch, unlabelled: GraphBatch | None) -> FlatScaling:
        """Learn from the larger batch, thinned out, of graphs that have flat numbers."""
        batch = graphs if unlabelled is None or len(unlabelled) < len(graphs) else unlabelled
        seen = flat_numbers(batch if len(batch) <= SEEN else _thinned(batch))
        _, first = np.unique(seen, axis=1, return_index=True)
        columns = np.sort(first[seen[:, first].std(0) > _VARIES])
        return cls(columns, seen[:, columns].mean(0), seen[:, columns].std(0))

    def __call__(self, graphs: GraphBatch) -> NDArray[np.float32]:
        """Return (B, P) float32 standardised numbers."""
        values = (flat_numbers(graphs)[:, self.columns] - self.centre) / self.scale
        return np.clip(values, -_FAR, _FAR, out=values)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the scaling as arrays."""
        return {
            "flat_columns": self.columns.astype(np.int64),
            "flat_centre": self.centre,
            "flat_scale": self.scale,
        }

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> FlatScaling:
        """Take back what ``state`` returned."""
        columns = state["flat_columns"].astype(np.intp)
        return cls(columns, state["flat_centre"], state["flat_scale"])


def fit_scaling(
    graphs: GraphBatch, unlabelled: GraphBatch | None, without: tuple[str, ...] = ()
) -> FeatureScaling:
    """Learn a scaling from the labelled architectures and whatever else is known of the space."""
    return FeatureScaling.of(seen_features(graphs, unlabelled), without)


def seen_features(graphs: GraphBatch, unlabelled: GraphBatch | None) -> Features:
    """Return the features from which a scaling is learnt: of the larger batch, thinned out."""
    if unlabelled is None or len(unlabelled) < len(graphs):
        return features_of(graphs)
    return features_of(unlabelled if len(unlabelled) <= SEEN else _thinned(unlabelled))


def _thinned(graphs: GraphBatch) -> GraphBatch:
    """Return every k-th architecture, the first of which are not special in any order."""
    places = np.linspace(0, len(graphs) - 1, SEEN).astype(np.intp)
    return graphs[places]
