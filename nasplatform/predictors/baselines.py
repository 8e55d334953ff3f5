"""What a predictor must beat: chance, costs, and textbook models of one-hot operations.

The textbook models see what anybody would write down first of an architecture, its adjacency and
one-hot operations, and learn the normal scores of the labels' ranks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nasplatform.encodings import get_encoding
from nasplatform.predictors.target_maps import normal_scores
from nasplatform.spaces.graph import GraphBatch

Floats = NDArray[np.float64]
Baseline = Callable[[GraphBatch, Floats, GraphBatch, int], Floats]
"""(labelled graphs (n), labels (n,), graphs (m), seed) -> scores (m,), higher is better."""
_AT_ONCE = 10_000
_TREES = 200
_TUNED = 500  # labels on which the kernel is tuned, which takes their cube of time


def one_hot_gp(known: GraphBatch, labels: Floats, asked: GraphBatch, seed: int) -> Floats:
    """Gaussian process with a squared-exponential kernel and noise, by marginal likelihood."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    x = _one_hot(known)
    width = float(np.sqrt(x.var(0).sum())) or 1.0
    kernel = ConstantKernel(1.0) * RBF(width, (width / 100, width * 100)) + WhiteKernel(0.1)
    y = normal_scores(labels)
    some = np.random.default_rng(seed).permutation(len(x))[:_TUNED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is fine
        tuned = GaussianProcessRegressor(kernel, normalize_y=True).fit(x[some], y[some])
    process = GaussianProcessRegressor(tuned.kernel_, optimizer=None, normalize_y=True)
    process.fit(x, y)
    return _in_parts(process.predict, asked)


def one_hot_trees(known: GraphBatch, labels: Floats, asked: GraphBatch, seed: int) -> Floats:
    """Random forest of 200 trees (Breiman, 2001)."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, random_state=seed)
    forest.fit(_one_hot(known), normal_scores(labels))
    return _in_parts(forest.predict, asked)


BASELINES: Mapping[str, Baseline] = {
    "random": lambda known, labels, asked, seed: np.random.default_rng(seed).random(len(asked)),
    "parameters": lambda known, labels, asked, seed: asked.total_params.astype(np.float64),
    "flops": lambda known, labels, asked, seed: asked.total_flops.astype(np.float64),
    "one-hot-gp": one_hot_gp,
    "one-hot-trees": one_hot_trees,
}


def _one_hot(graphs: GraphBatch) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(get_encoding("adjacency")(graphs), np.float32))


def _in_parts(predict: Callable[[NDArray[np.float32]], Floats], asked: GraphBatch) -> Floats:
    starts = range(0, len(asked), _AT_ONCE)
    parts = [predict(_one_hot(asked[start : start + _AT_ONCE])) for start in starts]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)
