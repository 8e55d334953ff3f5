"""Gaussian process regression with one length scale per feature, found by maximum a posteriori.

The kernel is rational quadratic over weighted squared distances,

    k(x, x') = s (1 + S / 2a)^-a,   S = sum_j w_j (x_j - x'_j)^2,   log w_j = A_group(j) + d_j,

and, where some columns guess the label itself, a linear function of these: v sum_j x_j x'_j over
them is added. Few labels and hundreds of features are held together by normal priors around
the start: a group of features shares most of its weight (A), a feature differs from its group a
little (d).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating[Any]]
_JITTER = 1e-6
_MANY = 600  # labels from which on several threads pay
EXACT = 5000  # labels up to which a process is conditioned on each: 1.2 GB for a moment
INDUCING = 2000  # of more labels, those that the process is projected on
_PROJECTED_JITTER = 1e-4  # of the signal: what a sum over thousands of labels asks for
_BLOCK = 1024  # labels whose covariances are held at once
_JUDGED = 2000  # of many labels, those that are left out in turn


@dataclass(frozen=True)
class Prior:
    """Centres and standard deviations of the normal priors, all on logarithms.

    group, feature: deviation of a group's weight and of a feature from its group.
    signal, noise:  deviation of the signal's (and the slopes') and of the noise's variance.
    start_noise:    centre of the noise's variance, for labels of unit variance.
    shape:          centre of the kernel's exponent a.
    weights:        (F,) centres of log w; None for groups, and features in a group, alike.
    guesses:        of the columns, the last so many are guesses of the label.
    slope:          centre of v.
    """

    group: float = 1.5
    feature: float = 1.0
    signal: float = 1.5
    noise: float = 1.0
    start_noise: float = 0.2
    shape: float = 1.6
    weights: Floats | None = None
    guesses: int = 0
    slope: float = 0.01


@dataclass(frozen=True)
class Kernel:
    """Fitted kernel: weights (F,) of the squared distances, and three positive numbers.

    The last ``guesses`` columns have a linear function as well, its slopes of variance ``slope``.
    """

    weights: Floats
    signal: float
    noise: float
    shape: float
    guesses: int = 0
    slope: float = 0.0

    def __call__(self, left: AnyFloats, right: AnyFloats) -> AnyFloats:
        """Return covariances (L, R) of the noiseless function between rows of (L, F), (R, F)."""
        nearby = self.of_distances(squared_distances(self.scaled(left), self.scaled(right)))
        return self.with_guesses(nearby, left, right)

    def with_guesses(self, nearby: AnyFloats, left: AnyFloats, right: AnyFloats) -> AnyFloats:
        """Add to covariances (L, R), in their place, what rows of (L, F) and (R, F) guess alike."""
        if self.guesses:
            told = left[:, -self.guesses :] * np.asarray(self.slope, left.dtype)
            nearby += told @ right[:, -self.guesses :].T
        return nearby

    def variances(self, x: AnyFloats) -> AnyFloats:
        """Return (B,) the variance of the noiseless function at rows of x (B, F)."""
        told = x[:, x.shape[1] - self.guesses :]
        variances: AnyFloats = self.signal + self.slope * (told**2).sum(1)
        return variances

    def scaled(self, x: AnyFloats) -> AnyFloats:
        """Return rows of x (B, F) so scaled that plain distances are the weighted ones."""
        scaled: AnyFloats = x * np.sqrt(self.weights).astype(x.dtype)
        return scaled

    def of_distances(self, distance: AnyFloats) -> AnyFloats:
        """Return covariances of weighted squared distances, in their place."""
        distance *= 1 / (2 * self.shape)
        distance += 1
        np.log(distance, out=distance)
        distance *= -self.shape
        np.exp(distance, out=distance)
        distance *= self.signal
        return distance

    def state(self) -> dict[str, Floats]:
        """Return the kernel as arrays."""
        numbers = np.array([self.signal, self.noise, self.shape, self.guesses, self.slope])
        return {"kernel_weights": self.weights, "kernel_numbers": numbers}

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> Kernel:
        """Take back what ``state`` returned."""
        signal, noise, shape, guesses, slope = (float(v) for v in state["kernel_numbers"])
        return cls(state["kernel_weights"], signal, noise, shape, int(guesses), slope)


def squared_distances(
    left: AnyFloats, right: AnyFloats, right_squares: AnyFloats | None = None
) -> Any:
    """Return (L, R) squared Euclidean distances of the rows of (L, F) and (R, F).

    right_squares: (R,) squared lengths of the rows of ``right``, where they are known.
    """
    found = left @ right.T
    found *= -2
    found += (left**2).sum(1)[:, None]
    found += (right**2).sum(1) if right_squares is None else right_squares
    return np.maximum(found, 0, out=found)


def fit_kernel(
    x: Floats,
    y: Floats,
    groups: NDArray[np.intp],
    prior: Prior,
    steps: int = 60,
    rate: float = 0.1,
    progress: Callable[[int], None] = lambda step: None,
) -> Kernel:
    """Find the kernel by Adam on the negative log posterior.

    x: (n, F) standardised features. y: (n,) labels of zero mean and unit variance.
    groups: (F,) the group of each feature. Costs O(steps n^2 (n + F)).
    """
    centre = _start(groups, prior)
    width = _widths(groups, prior)
    place = centre.copy()
    first, second = np.zeros_like(place), np.zeros_like(place)
    # Threads wait for each other longer than they compute on matrices of this size.
    with threadpool_limits(limits=1 if len(y) < _MANY else None, user_api="blas"):
        for step in range(1, steps + 1):
            _, gradient = negative_log_posterior(place, x, y, groups, centre, width, prior.guesses)
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient**2 - second)
            move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            place = place - rate * move
            progress(step)
    return _kernel(place, groups, prior.guesses)


def negative_log_posterior(
    place: Floats,
    x: Floats,
    y: Floats,
    groups: NDArray[np.intp],
    centre: Floats,
    width: Floats,
    guesses: int = 0,
) -> tuple[float, Floats]:
    """Return the value and the gradient (P,) at ``place``.

    place: (P,) group weights, feature deviations, log signal, log noise, log shape, log slope.
    """
    n, n_groups = len(y), groups.max() + 1
    kernel = _kernel(place, groups, guesses)
    scaled = x * np.sqrt(kernel.weights)
    spread = 1 + squared_distances(scaled, scaled) / (2 * kernel.shape)
    logs = np.log(spread)
    k = kernel.signal * np.exp(-kernel.shape * logs)
    noisy = k + (kernel.noise + _JITTER) * np.eye(n)
    told = kernel.with_guesses(np.zeros_like(k), x, x)
    noisy += told
    factor = cholesky(noisy, lower=True, check_finite=False)
    alpha = cho_solve((factor, True), y, check_finite=False)
    inverse, _ = dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    value = 0.5 * y @ alpha + np.log(np.diagonal(factor)).sum()
    outer = 0.5 * (inverse - alpha[:, None] * alpha)  # d value / d covariance
    pull = outer * k
    by_distance = pull / spread * -0.5
    by_weight = 2 * (
        by_distance.sum(1) @ (scaled**2) - ((by_distance @ scaled) * scaled).sum(0)
    )  # times the weight itself: the parameter is its logarithm
    by_shape = kernel.shape * (pull * (-logs + (spread - 1) / spread)).sum()
    gradient = np.concatenate(
        [
            np.bincount(groups, by_weight, minlength=n_groups),
            by_weight,
            [pull.sum(), kernel.noise * np.trace(outer), by_shape, (outer * told).sum()],
        ]
    )
    away = (place - centre) / width
    return float(value + 0.5 * away @ away), gradient + away / width


@dataclass(frozen=True)
class Posterior:
    """A Gaussian process given its labels.

    x: (m, F) standardised features of labelled ones; alpha: (m,), so that k(x*, x) @ alpha is the
    mean; factor: (m, m) lower Cholesky factor of their noisy covariance.
    """

    kernel: Kernel
    x: Floats
    alpha: Floats
    factor: Floats

    @classmethod
    def of(cls, kernel: Kernel, x: Floats, y: Floats) -> Posterior:
        """Condition on labels y (n,) of x (n, F)."""
        noisy = kernel(x, x)
        noisy[np.diag_indices(len(y))] += kernel.noise + _JITTER
        factor, _ = cho_factor(noisy, lower=True, overwrite_a=True)
        return cls(kernel, x, cho_solve((factor, True), y), np.tril(factor))

    def leave_one_out(self, y: Floats) -> tuple[Floats, Floats]:
        """Return mean and variance (n,) of each label given all the others, noise included."""
        inverse = solve_triangular(self.factor, np.eye(len(y)), lower=True)
        precision = (inverse**2).sum(0)
        return y - self.alpha / precision, 1 / precision


@dataclass(frozen=True)
class LeftOut:
    """Labels (k,) with mean and variance of each given all the others, noise included."""

    labels: Floats
    mean: Floats
    variance: Floats


def condition(kernel: Kernel, x: Floats, y: Floats) -> tuple[Posterior, LeftOut]:
    """Condition on labels y (n,) of x (n, F), in random order, with memory that has a bound.

    Up to ``EXACT`` labels exactly. Of more, the process is projected on the first ``INDUCING``
    (the projected process, or DTC: Quinonero-Candela and Rasmussen, JMLR 2005, section 5; its mean
    is that of Titsias, AISTATS 2009): every label counts, through its covariances with these. That
    costs O(n m^2) and O(m^2) memory; at most 2,000 labels are then left out in turn.
    """
    if len(y) <= EXACT:
        posterior = Posterior.of(kernel, x, y)
        return posterior, LeftOut(y, *posterior.leave_one_out(y))
    return _projected(kernel, x, y)


def _projected(kernel: Kernel, x: Floats, y: Floats) -> tuple[Posterior, LeftOut]:
    """Condition on labels through the first ``INDUCING``: features v(x) = L^-1 k(x_m, x).

    With L L^T = K_mm the process is the linear model y = v(x) w + noise, w ~ N(0, I), so that
    leaving a label out has a closed form, as in ridge regression.
    """
    chosen = x[:INDUCING]
    m = len(chosen)
    inside = kernel(chosen, chosen)
    noisy = inside.copy()
    noisy[np.diag_indices(m)] += kernel.noise + _JITTER
    inside[np.diag_indices(m)] += _PROJECTED_JITTER * kernel.signal
    root = cholesky(inside, lower=True, overwrite_a=True, check_finite=False)
    total, pulled = np.zeros((m, m)), np.zeros(m)
    for start in range(0, len(y), _BLOCK):
        block = kernel(x[start : start + _BLOCK], chosen)
        total += block.T @ block
        pulled += block.T @ y[start : start + _BLOCK]
    total = solve_triangular(root, total, lower=True, overwrite_b=True)
    total = solve_triangular(root, total.T, lower=True, overwrite_b=True)
    total[np.diag_indices(m)] += kernel.noise
    weights = cholesky(total, lower=True, overwrite_a=True, check_finite=False)
    mean_weights = cho_solve((weights, True), solve_triangular(root, pulled, lower=True))
    alpha = solve_triangular(root, mean_weights, lower=True, trans=1)
    factor = cholesky(noisy, lower=True, overwrite_a=True, check_finite=False)
    judged = slice(max(len(y) - _JUDGED, 0), None)
    seen = solve_triangular(root, kernel(chosen, x[judged]), lower=True)  # (m, k)
    leverage = (solve_triangular(weights, seen, lower=True) ** 2).sum(0)
    left = LeftOut(
        y[judged],
        y[judged] - (y[judged] - mean_weights @ seen) / (1 - leverage),
        np.maximum(kernel.variances(x[judged]) - (seen**2).sum(0), 0)
        + kernel.noise / (1 - leverage),
    )
    return Posterior(kernel, chosen, alpha, factor), left


def _kernel(place: Floats, groups: NDArray[np.intp], guesses: int) -> Kernel:
    n_groups = groups.max() + 1
    logs = np.clip(place[:n_groups][groups] + place[n_groups : n_groups + len(groups)], -30, 10)
    signal, noise, shape, slope = (float(v) for v in np.exp(np.clip(place[-4:], -12, 8)))
    return Kernel(np.exp(logs), signal, noise, shape, guesses, slope if guesses else 0.0)


def _start(groups: NDArray[np.intp], prior: Prior) -> Floats:
    sizes = np.bincount(groups)
    if prior.weights is None:
        shared = -np.log(len(sizes)) - np.log(np.maximum(sizes, 1))
        deviations = np.zeros(len(groups))
    else:
        shared = np.bincount(groups, prior.weights) / np.maximum(sizes, 1)
        deviations = prior.weights - shared[groups]
    numbers = np.log([1.0, prior.start_noise, prior.shape, prior.slope])
    return np.concatenate([shared, deviations, numbers])


def _widths(groups: NDArray[np.intp], prior: Prior) -> Floats:
    return np.concatenate(
        [
            np.full(groups.max() + 1, prior.group),
            np.full(len(groups), prior.feature),
            [prior.signal, prior.noise, 1.0, prior.signal],
        ]
    )
