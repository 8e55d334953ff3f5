import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from nasplatform.predictors import kernels
from nasplatform.predictors.kernels import (
    Kernel,
    Posterior,
    Prior,
    condition,
    fit_kernel,
    negative_log_posterior,
    squared_distances,
)

Floats = np.ndarray


def problem(n: int = 30, features: int = 6) -> tuple[Floats, Floats, Floats]:
    """Labels that depend on the first two features only."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, features))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * rng.standard_normal(n)
    return x, (y - y.mean()) / y.std(), np.array([0, 0, 0, 1, 1, 1])


def test_kernel_is_rational_quadratic() -> None:
    x, _, _ = problem()
    kernel = Kernel(np.linspace(0.1, 1, 6), 1.7, 0.1, 0.8)
    distances = cdist(x, x[:4], "sqeuclidean", w=kernel.weights)
    np.testing.assert_allclose(kernel(x, x[:4]), 1.7 * (1 + distances / 1.6) ** -0.8, rtol=1e-9)
    np.testing.assert_allclose(squared_distances(x, x[:3]), cdist(x, x[:3]) ** 2, atol=1e-9)


def test_guesses_add_a_linear_function() -> None:
    x, _, _ = problem()
    plain, guessing = Kernel(np.ones(6), 1.7, 0.1, 0.8), Kernel(np.ones(6), 1.7, 0.1, 0.8, 2, 0.3)
    added = 0.3 * (x[:, 4:] @ x[:4, 4:].T)
    np.testing.assert_allclose(guessing(x, x[:4]), plain(x, x[:4]) + added, rtol=1e-9)
    np.testing.assert_allclose(guessing.variances(x), np.diagonal(guessing(x, x)), rtol=1e-9)
    np.testing.assert_allclose(plain.variances(x), 1.7)
    restored = Kernel.restore(guessing.state())
    np.testing.assert_array_equal(restored(x, x), guessing(x, x))


def test_guesses_hold_far_from_all_labels() -> None:
    """What is near no label has the mean of the labels, but where a guess says otherwise."""
    x, _, groups = problem(n=40)
    y = x[:, 5] - x[:, 5].mean()
    y = y / y.std()
    far = np.zeros((1, 6))
    far[0, 5] = -50.0
    told = {}
    for guesses in (0, 1):
        kernel = fit_kernel(x, y, groups, Prior(guesses=guesses))
        told[guesses] = (kernel(far, x) @ Posterior.of(kernel, x, y).alpha).item()
    assert told[0] > 2 * y.min()
    assert told[1] < 5 * y.min()


@pytest.mark.parametrize("guesses", [0, 2])
def test_gradient_is_that_of_finite_differences(guesses: int) -> None:
    x, y, groups = problem(n=15)
    rng = np.random.default_rng(0)
    centre = rng.normal(-1, 0.3, 2 + 6 + 4)
    width = rng.uniform(0.5, 2, len(centre))
    place = centre + rng.normal(0, 0.3, len(centre))

    def value(at: Floats) -> float:
        return negative_log_posterior(at, x, y, groups, centre, width, guesses)[0]

    _, gradient = negative_log_posterior(place, x, y, groups, centre, width, guesses)
    np.testing.assert_allclose(gradient, approx_fprime(place, value, 1e-6), rtol=1e-3, atol=1e-4)


def test_value_is_the_likelihood_and_the_priors() -> None:
    x, y, groups = problem(n=12)
    place = np.concatenate([[-1.0, -2.0], np.linspace(-0.2, 0.2, 6), [0.1, -1.5, 0.3, -2.0]])
    signal, noise, shape, slope = np.exp(place[8:])
    kernel = Kernel(np.exp(place[:2][groups] + place[2:8]), signal, noise, shape, 1, slope)
    covariance = kernel(x, x) + (kernel.noise + 1e-6) * np.eye(12)
    expected = -multivariate_normal(np.zeros(12), covariance).logpdf(y)
    expected -= 0.5 * 12 * np.log(2 * np.pi)  # a constant that is left out
    value, _ = negative_log_posterior(place, x, y, groups, place - 2.0, np.full(12, 2.0), 1)
    assert value == pytest.approx(expected + 0.5 * 12, rel=1e-6)


def test_fit_finds_the_features_that_matter() -> None:
    x, y, groups = problem(n=60)
    kernel = fit_kernel(x, y, groups, Prior())
    assert kernel.weights[:2].min() > 3 * kernel.weights[3:].max()
    assert kernel.noise < 0.1


def test_leave_one_out_is_leaving_one_out() -> None:
    x, y, _ = problem(n=10)
    kernel = Kernel(np.full(6, 0.3), 1.0, 0.1, 1.0, 2, 0.4)
    mean, variance = Posterior.of(kernel, x, y).leave_one_out(y)
    for left in range(10):
        rest = np.arange(10) != left
        posterior = Posterior.of(kernel, x[rest], y[rest])
        k = kernel(x[[left]], x[rest])
        explained = np.linalg.solve(kernel(x[rest], x[rest]) + 0.100001 * np.eye(9), k.T)
        assert mean[left] == pytest.approx((k @ posterior.alpha).item(), abs=1e-6)
        alone = kernel.variances(x[[left]]).item() + 0.100001
        assert variance[left] == pytest.approx(alone - (k @ explained).item(), abs=1e-5)


def test_of_many_labels_a_process_is_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the linear model in the covariances with the first ten, written down."""
    monkeypatch.setattr(kernels, "EXACT", 30)
    monkeypatch.setattr(kernels, "INDUCING", 10)
    monkeypatch.setattr(kernels, "_JUDGED", 15)
    monkeypatch.setattr(kernels, "_BLOCK", 7)
    x, y, _ = problem(n=40)
    kernel = Kernel(np.full(6, 0.05), 1.3, 0.2, 1.0, 1, 0.5)
    posterior, left = condition(kernel, x, y)
    chosen = x[:10]
    inside = kernel(chosen, chosen) + 1.3e-4 * np.eye(10)

    def mean(rows: Floats, asked: Floats) -> Floats:
        k = kernel(chosen, x[rows])
        pulled = np.linalg.solve(0.2 * inside + k @ k.T, k @ y[rows])
        return kernel(asked, chosen) @ pulled

    asked = problem(n=50)[0][40:]
    every = np.arange(40)
    np.testing.assert_allclose(kernel(asked, posterior.x) @ posterior.alpha, mean(every, asked))
    assert posterior.x.shape == (10, 6)
    for place, row in enumerate(range(25, 40)):
        others = every[every != row]
        assert left.mean[place] == pytest.approx(mean(others, x[[row]]).item(), abs=1e-6)
        k, one = kernel(chosen, x[others]), kernel(chosen, x[[row]])
        lost = (one * np.linalg.solve(inside, one)).sum()
        sure = 0.2 * (one * np.linalg.solve(0.2 * inside + k @ k.T, one)).sum()
        alone = kernel(x[[row]], x[[row]]).item()
        assert left.variance[place] == pytest.approx(alone - lost + sure + 0.2, abs=1e-4)
    noisy = kernel(chosen, chosen) + 0.200001 * np.eye(10)
    np.testing.assert_allclose(posterior.factor @ posterior.factor.T, noisy, rtol=1e-9)


def test_projected_on_all_labels_a_process_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = problem(n=40)
    kernel = Kernel(np.full(6, 0.3), 1.3, 0.2, 1.0)
    exact, known = condition(kernel, x, y)
    monkeypatch.setattr(kernels, "EXACT", 30)
    projected, left = condition(kernel, x, y)
    asked = problem(n=50)[0][40:]
    means = [kernel(asked, one.x) @ one.alpha for one in (exact, projected)]
    np.testing.assert_allclose(means[1], means[0], atol=2e-3)
    np.testing.assert_allclose(left.mean, known.mean, atol=5e-3)
    np.testing.assert_allclose(left.variance, known.variance, rtol=2e-2)
