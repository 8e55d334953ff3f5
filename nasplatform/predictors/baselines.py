"""What a predictor must beat: chance, costs, and textbook models.

The textbook models see what anybody would write down first of an architecture, its adjacency and
one-hot operations, and learn the normal scores of the labels' ranks. Where nodes have numbers,
such as the heads of a transformer's layers, further ones see these, which are the decisions of the
space, in one row with parameters and FLOPs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings import get_encoding
from nasplatform.encodings.node_numbers import has_flat_numbers
from nasplatform.predictors.feature_scaling import FlatScaling
from nasplatform.predictors.gp import Process
from nasplatform.predictors.kernels import Prior
from nasplatform.predictors.target_maps import normal_scores
from nasplatform.predictors.trees import Forest, TreesOptions
from nasplatform.spaces.graph import GraphBatch

Floats = NDArray[np.float64]
Baseline = Callable[[GraphBatch, Floats, GraphBatch, int], Floats]
"""(labelled graphs (n), labels (n,), graphs (m), seed) -> scores (m,), higher is better."""
_AT_ONCE = 10_000
_TREES = 200
_STEPS = 60  # of Adam on the kernel of flat numbers
_TUNED = 500  # labels on which the kernel is tuned, which takes their cube of time
_KNOWN = 5000  # labels on which the plain process is conditioned: it takes their square of memory


def one_hot_gp(known: GraphBatch, labels: Floats, asked: GraphBatch, seed: int) -> Floats:
    """Gaussian process with a squared-exponential kernel and noise, by marginal likelihood."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    x = _one_hot(known)
    width = float(np.sqrt(x.var(0).sum())) or 1.0
    kernel = ConstantKernel(1.0) * RBF(width, (width / 100, width * 100)) + WhiteKernel(0.1)
    y = normal_scores(labels)
    order = np.random.default_rng(seed).permutation(len(x))
    some, known_rows = order[:_TUNED], np.sort(order[:_KNOWN])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is fine
        tuned = GaussianProcessRegressor(kernel, normalize_y=True).fit(x[some], y[some])
    process = GaussianProcessRegressor(tuned.kernel_, optimizer=None, normalize_y=True)
    process.fit(x[known_rows], y[known_rows])
    return _in_parts(process.predict, asked)


def one_hot_trees(known: GraphBatch, labels: Floats, asked: GraphBatch, seed: int) -> Floats:
    """Random forest of 200 trees (Breiman, 2001)."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, random_state=seed)
    forest.fit(_one_hot(known), normal_scores(labels))
    return _in_parts(forest.predict, asked)


BASELINES: Mapping[str, Baseline] = {
    "random": lambda known, labels, asked, seed: np.random.default_rng(seed).random(len(asked)),
    "params": lambda known, labels, asked, seed: asked.total_params.astype(np.float64),
    "flops": lambda known, labels, asked, seed: asked.total_flops.astype(np.float64),
    "one-hot-gp": one_hot_gp,
    "one-hot-trees": one_hot_trees,
}
OF_NUMBERS: Mapping[str, Baseline] = {
    "width": lambda known, labels, asked, seed: asked.channels[:, -1, -1].astype(np.float64),
    "flat-gp": lambda known, labels, asked, seed: flat_gp(
        known, normal_scores(labels), asked, seed
    ),
    "flat-gp-plain": lambda known, labels, asked, seed: flat_gp(known, labels, asked, seed),
    "flat-trees": lambda known, labels, asked, seed: flat_trees(known, labels, asked, seed),
}
"""Beside ``BASELINES`` where there are flat numbers; the width is of what the classifier reads.

``flat-gp-plain`` learns the labels as they are: better where no architecture failed, else worse.
"""


def baselines_of(graphs: GraphBatch) -> Mapping[str, Baseline]:
    """Return the baselines that such graphs have."""
    return {**BASELINES, **OF_NUMBERS} if has_flat_numbers(graphs) else BASELINES


def flat_gp(known: GraphBatch, labels: Floats, asked: GraphBatch, seed: int) -> Floats:
    """Gaussian process with a length scale for each flat number, by marginal likelihood."""
    x, others = _flat_pair(known, asked)
    order = np.random.default_rng(seed).permutation(len(labels))
    groups = np.zeros(x.shape[1], np.intp)
    process = Process.fit(
        x[order], labels[order], groups, Prior(), _STEPS, lambda done, total: None
    )
    return process.predict(others)[0]


def flat_trees(known: GraphBatch, labels: Floats, asked: GraphBatch, seed: int) -> Floats:
    """Boosted trees (Friedman, 2001) on flat numbers."""
    x, others = _flat_pair(known, asked)
    return Forest.grow(x, normal_scores(labels), TreesOptions(), seed)(others)


def _flat_pair(
    known: GraphBatch, asked: GraphBatch
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scaling = FlatScaling.of(known, asked)
    return scaling(known), scaling(asked)


def _one_hot(graphs: GraphBatch) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(get_encoding("adjacency")(graphs), np.float32))


def _in_parts(predict: Callable[[NDArray[np.float32]], Floats], asked: GraphBatch) -> Floats:
    starts = range(0, len(asked), _AT_ONCE)
    parts = [predict(_one_hot(asked[start : start + _AT_ONCE])) for start in starts]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)
