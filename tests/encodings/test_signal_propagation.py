"""Closed-form propagation against integrals, finite differences and chains done by hand."""

import numpy as np
import pytest
from scipy import integrate

from nasplatform.encodings import signal_propagation
from nasplatform.encodings.graph_features import feature_groups
from nasplatform.encodings.responses import CHI, relu_difference
from nasplatform.spaces import GraphBatch, get_space


def correlation_after_relu(r: float) -> float:
    """Correlation of two rectified normal numbers that correlate with r, by integration."""

    def density(y: float, x: float) -> float:
        rest = (x * x - 2 * r * x * y + y * y) / (2 * (1 - r * r))
        return float(np.exp(-rest) / (2 * np.pi * np.sqrt(1 - r * r)))

    product, _ = integrate.dblquad(lambda y, x: x * y * density(y, x), 0, 9, 0, 9)
    mean = 1 / np.sqrt(2 * np.pi)
    return float((product - mean**2) / (0.5 - mean**2))


@pytest.mark.parametrize("r", [-0.7, 0.0, 0.3, 0.9])
def test_relu_difference_is_the_integral(r: float) -> None:
    h, _ = relu_difference(np.array([1 - r], np.float32))
    assert float(h[0]) == pytest.approx(1 - correlation_after_relu(r), abs=2e-4)


def test_relu_difference_is_accurate_near_zero() -> None:
    d = np.logspace(-6, 0.3, 200)
    angle = 2 * np.arcsin(np.sqrt(d / 2))
    exact = ((np.pi - angle) * d + angle - np.sin(angle)) / (np.pi - 1)
    h, slope = relu_difference(d.astype(np.float32))
    np.testing.assert_allclose(h, exact, rtol=2e-4)
    np.testing.assert_allclose(slope, (np.pi - angle) / (np.pi - 1), rtol=1e-4)


def cells(*texts: str) -> GraphBatch:
    return in_skeleton(1, 1, *texts)


def in_skeleton(stacks: int, modules: int, *texts: str) -> GraphBatch:
    space = get_space("nasbench101", stacks=stacks, modules_per_stack=modules)
    return space.graphs(space.population([space.parse(text) for text in texts]))


def test_a_chain_is_repeated_application() -> None:
    groups = feature_groups(cells("[33]100/10/1"))
    d = np.array(signal_propagation.STARTS, np.float32)
    for _ in range(3):  # the projection of the input and two convolutions
        d, _ = relu_difference(d)
    np.testing.assert_allclose(groups["differences"][0, :3], np.log(d), rtol=1e-4)
    assert groups["gradients"][0, 0] == pytest.approx(3 * np.log(CHI), rel=1e-4)


def test_uniform_mode_is_the_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbance without spatial frequency is a change of the starting difference."""
    texts = ("[3M1]1100/011/10/1", "[13]101/10/1", "[M]11/1")
    graphs = in_skeleton(2, 2, *texts)
    groups = feature_groups(graphs)
    n = len(signal_propagation.STARTS)
    step = 1e-2
    ends = []
    for sign in (1, -1):
        moved = tuple(d + sign * step for d in (1.0, 0.5, 0.1))
        monkeypatch.setattr(signal_propagation, "STARTS", moved)
        ends.append(np.exp(feature_groups(graphs)["differences"][:, -n - 1 : -1]))
    slope = (ends[0] - ends[1]) / (2 * step)
    relative = np.exp(groups["modes"][:, -n * len(signal_propagation.FREQUENCIES) :])
    uniform = relative.reshape(-1, n, len(signal_propagation.FREQUENCIES))[:, :, 0]
    difference = np.exp(groups["differences"][:, -n - 1 : -1])
    np.testing.assert_allclose(uniform * difference, slope, rtol=2e-2)


def test_windows_damp_fine_modes_only() -> None:
    modes = feature_groups(cells("[1]10/1", "[3]10/1"))["modes"].T.reshape(3, 4, 2)
    np.testing.assert_allclose(modes[:, 0, 0], modes[:, 0, 1], rtol=1e-5)
    lost = modes[:, 1:, 0] - modes[:, 1:, 1]
    window = (1 + 2 * np.cos(np.array(signal_propagation.FREQUENCIES[1:]))) / 3
    np.testing.assert_allclose(lost, np.tile(-np.log(window), (3, 1)), rtol=1e-3)
