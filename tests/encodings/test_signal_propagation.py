"""Closed-form propagation against integrals, finite differences and chains done by hand."""

import numpy as np
import pytest
from scipy import integrate

from nasplatform.encodings import signal_propagation
from nasplatform.encodings.active_subgraph import active_subgraphs
from nasplatform.encodings.signal_propagation import CHI, relu_difference, signal_features
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
    space = get_space("nasbench101", stacks=1, modules_per_stack=1)
    return space.graphs(space.population([space.parse(text) for text in texts]))


def test_a_chain_is_repeated_application() -> None:
    groups = signal_features(active_subgraphs(cells("[33]100/10/1")), (0,))
    d = np.array(signal_propagation.STARTS, np.float32)
    for _ in range(3):  # the projection of the input and two convolutions
        d, _ = relu_difference(d)
    np.testing.assert_allclose(groups["differences"][:3, 0], np.log(d), rtol=1e-4)
    assert groups["gradients"][0, 0] == pytest.approx(3 * np.log(CHI), rel=1e-4)


def test_uniform_mode_is_the_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbance without spatial frequency is a change of the starting difference."""
    texts = ("[3M1]1100/011/10/1", "[13]101/10/1", "[M]11/1")
    active = active_subgraphs(cells(*texts))
    stages = (0, 0, 1)
    groups = signal_features(active, stages)
    n = len(signal_propagation.STARTS)
    step = 1e-2
    ends = []
    for sign in (1, -1):
        moved = tuple(d + sign * step for d in (1.0, 0.5, 0.1))
        monkeypatch.setattr(signal_propagation, "STARTS", moved)
        ends.append(np.exp(signal_features(active, stages)["differences"][-n - 1 : -1]))
    slope = (ends[0] - ends[1]) / (2 * step)
    relative = np.exp(groups["modes"][-n * len(signal_propagation.FREQUENCIES) :])
    uniform = relative.reshape(n, len(signal_propagation.FREQUENCIES), -1)[:, 0]
    difference = np.exp(groups["differences"][-n - 1 : -1])
    np.testing.assert_allclose(uniform * difference, slope, rtol=2e-2)


def test_windows_damp_fine_modes_only() -> None:
    active = active_subgraphs(cells("[1]10/1", "[3]10/1"))
    modes = signal_features(active, (0,))["modes"].reshape(3, 4, 2)
    np.testing.assert_allclose(modes[:, 0, 0], modes[:, 0, 1], rtol=1e-5)
    lost = modes[:, 1:, 0] - modes[:, 1:, 1]
    window = (1 + 2 * np.cos(np.array(signal_propagation.FREQUENCIES[1:]))) / 3
    np.testing.assert_allclose(lost, np.tile(-np.log(window), (3, 1)), rtol=1e-3)
