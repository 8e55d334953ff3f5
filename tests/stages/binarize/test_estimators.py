"""Every estimator against a slow computation of its own."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import integrate
from torch import Tensor, nn

from nasplatform.stages.binarize.estimators import (
    ApproxSign,
    DoReFa,
    Estimator,
    Fourier,
    ReCU,
    ReSTE,
    StraightThrough,
    rectified,
)
from nasplatform.stages.binarize.noise import NoiseAdaptation, NoiseOptions
from nasplatform.stages.binarize.slopes import (
    binary_sign,
    fourier_series,
    fourier_slope,
    power_slope,
    sign_of,
    triangle_slope,
)

ALL: tuple[Estimator, ...] = (
    *(Fourier(), StraightThrough(), DoReFa(), ApproxSign(), ReSTE(), ReCU()),
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slope_sum(values: Tensor, omega: float, terms: int) -> Tensor:
    """The derivative of the series, term by term."""
    total = torch.zeros_like(values)
    for i in range(terms + 1):
        total += torch.cos((2 * i + 1) * omega * values)
    return 4 * omega / math.pi * total


class TestFourier:
    @pytest.mark.parametrize("terms", [0, 1, 9, 18, 50])
    @pytest.mark.parametrize("omega", [0.1, 0.3, math.pi / 2, 3.0])
    def test_closed_form_is_the_sum(self, omega, terms):
        edge = torch.tensor([0.0, -0.0, 1e-12, -1e-7, 0.5, 1.0, -1.0], dtype=torch.float64)
        values = torch.cat([edge, torch.linspace(-1, 1, 401, dtype=torch.float64)])
        expected = slope_sum(values, omega, terms)
        torch.testing.assert_close(fourier_slope(values, omega, terms), expected)

    @pytest.mark.parametrize("terms", [0, 9, 18])
    def test_single_precision_is_as_good_as_its_digits(self, terms):
        values = torch.cat([torch.zeros(1), torch.randn(2000, generator=rng()).clamp(-1, 1)])
        exact = slope_sum(values.double(), 0.1, terms)
        found = fourier_slope(values, 0.1, terms)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("terms", [0, 9, 18])
    def test_is_the_derivative_of_the_series(self, terms):
        """By finite differences, and by autograd through the terms."""
        values = torch.linspace(-1, 1, 41, dtype=torch.float64, requires_grad=True)
        step = 1e-6
        ahead, behind = (fourier_series(values + d, 0.7, terms) for d in (step, -step))
        found = fourier_slope(values.detach(), 0.7, terms)
        torch.testing.assert_close(found, (ahead - behind).detach() / (2 * step), atol=1e-6, rtol=0)
        (by_hand,) = torch.autograd.grad(fourier_series(values, 0.7, terms).sum(), values)
        torch.testing.assert_close(found, by_hand)

    def test_series_comes_to_the_square_wave(self):
        values = torch.tensor([-9.0, -2.0, 2.0, 9.0], dtype=torch.float64)
        near = fourier_series(values, 0.1, 4000)
        torch.testing.assert_close(near, torch.sign(values), atol=1e-3, rtol=0)

    def test_coefficients_are_those_of_the_square_wave(self):
        """The first terms by integrating the sign over a period."""
        omega, period = 0.5, 4 * math.pi
        half = period / 2
        values = torch.linspace(-1, 1, 7, dtype=torch.float64)
        expected = np.zeros(7)
        for k in range(1, 8):
            wave = integrate.quad(lambda t, k=k: np.sin(k * omega * t), 0, half)[0]
            expected += 2 * 2 / period * wave * np.sin(k * omega * values.numpy())
        np.testing.assert_allclose(fourier_series(values, omega, 3).numpy(), expected, atol=1e-9)

    def test_terms_grow_in_equal_parts_to_the_last(self):
        steps = 1000
        grown = [Fourier().terms_at(step / (steps - 1)) for step in range(steps)]
        assert grown[0] == 9
        assert grown[-1] == 18
        assert grown == sorted(grown)
        assert {grown.count(n) for n in range(9, 19)} <= {99, 100, 101}

    def test_slope_is_clipped_and_goes_with_the_training(self):
        values = torch.tensor([0.3, 1.2, -1.2])
        for done, terms in ((0.0, 9), (1.0, 18)):
            slope = Fourier().activation_slope(values, done)
            assert slope[0] == pytest.approx(float(slope_sum(values, 0.1, terms)[0]), rel=1e-5)
            assert slope[1:].tolist() == [0, 0]

    @pytest.mark.parametrize(
        "options", [{"terms": (3, 2)}, {"terms": (-1, 2)}, {"omega": 4.0}, {"omega": 0}]
    )
    def test_impossible_options_are_refused(self, options):
        with pytest.raises(ValidationError):
            Fourier(**options)


class TestSign:
    def test_zero_is_positive_of_either_sign(self):
        values = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3.0, -3.0, torch.inf, -torch.inf])
        assert sign_of(values).tolist() == [1, 1, 1, -1, 1, -1, 1, -1]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_keeps_the_type_in_both_directions(self, dtype):
        values = torch.tensor([0.5, -0.25, 0.0], dtype=dtype, requires_grad=True)
        made = binary_sign(values, lambda t: fourier_slope(t, 0.1, 9))
        made.sum().backward()
        assert made.dtype == dtype
        assert made.tolist() == [1, -1, 1]
        expected = slope_sum(values.detach().double(), 0.1, 9)
        assert values.grad is not None
        assert values.grad.dtype == dtype
        torch.testing.assert_close(values.grad.double(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.name)
@pytest.mark.parametrize("done", [0.0, 0.4, 1.0])
def test_signs_in_the_forward_pass_and_a_slope_behind(estimator, done):
    weight = torch.randn((4, 3, 3, 3), generator=rng(), requires_grad=True)
    values = torch.randn((2, 3, 5, 5), generator=rng(1), requires_grad=True)
    signs = estimator.weight_signs(weight, done)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(estimator.activation_signs(values, done), torch.sign(values))
    (signs * torch.randn(signs.shape, generator=rng(2))).sum().backward()
    assert weight.grad is not None
    assert bool(weight.grad.abs().sum() > 0)
    assert bool(torch.isfinite(weight.grad).all())


@pytest.mark.parametrize("estimator", [StraightThrough(), DoReFa(), ApproxSign()])
def test_slopes_by_their_definitions(estimator):
    values = [-1.5, -1.0001, -0.75, 0.0, 0.25, 0.999, 1.0001, 2.0]
    weight = estimator.weight_slope(torch.tensor(values), 0.5).tolist()
    found = estimator.activation_slope(torch.tensor(values), 0.5).tolist()
    inside = [float(abs(t) < 1) for t in values]
    assert weight == ([1.0] * len(values) if isinstance(estimator, DoReFa) else inside)
    triangle = [max(0.0, 2 - 2 * abs(t)) for t in values]
    expected = triangle if isinstance(estimator, ApproxSign) else inside
    assert found == pytest.approx(expected, abs=1e-6)


def test_triangle_is_the_derivative_of_the_piecewise_parabola():
    def parabola(t: float) -> float:
        if abs(t) >= 1:
            return math.copysign(1, t)
        return 2 * t + t * t if t < 0 else 2 * t - t * t

    for t in (-1.3, -0.9, -0.2, 0.3, 0.8, 1.1):
        expected = (parabola(t + 1e-6) - parabola(t - 1e-6)) / 2e-6
        assert float(triangle_slope(torch.tensor(t))) == pytest.approx(expected, abs=1e-4)


class TestReSTE:
    @pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
    def test_is_the_derivative_of_the_power_function_outside_the_core(self, power):
        def function(t: float) -> float:
            return math.copysign(abs(t) ** (1 / power), t)

        for t in (-1.4, -0.5, -0.11, 0.2, 1.0, 1.49):
            expected = (function(t + 1e-6) - function(t - 1e-6)) / 2e-6
            found = float(power_slope(torch.tensor(t, dtype=torch.float64), power, 0.1, 1.5))
            assert found == pytest.approx(expected, rel=1e-5)
        line = function(0.1) / 0.1
        core = power_slope(torch.tensor([0.0, 0.05, -0.09]), power, 0.1, 1.5)
        assert core.tolist() == pytest.approx([line] * 3)
        assert power_slope(torch.tensor([1.6, -2.0]), power, 0.1, 1.5).tolist() == [0, 0]

    def test_begins_as_straight_through_and_ends_at_its_power(self):
        values = torch.linspace(-1.4, 1.4, 11)
        assert torch.allclose(ReSTE().activation_slope(values, 0.0), torch.ones(11))
        ended = power_slope(values, 3.0, 0.1, 1.5)
        torch.testing.assert_close(ReSTE().activation_slope(values, 1.0), ended)


class TestReCU:
    def test_weights_are_clamped_at_the_quantile_of_laplace(self):
        weight = torch.randn((3, 2, 3, 3), generator=rng())
        found = rectified(weight, 0.9)
        for filter_, made in zip(weight.flatten(1), found.flatten(1), strict=True):
            w = filter_.double().numpy()
            unit = (w - w.mean()) / math.sqrt(w.var(ddof=1) + 1e-5)
            scale = np.abs(unit).mean()
            limit = -scale * math.log(2 - 2 * 0.9)  # the inverse of 1 - exp(-q / scale) / 2
            assert 1 - math.exp(-limit / scale) / 2 == pytest.approx(0.9)
            np.testing.assert_allclose(made.numpy(), np.clip(unit, -limit, limit), atol=1e-5)

    def test_tau_grows_exponentially(self):
        taus = [ReCU().tau_at(done) for done in (0, 0.25, 0.5, 0.75, 1)]
        assert taus[0] == pytest.approx(0.85)
        assert taus[-1] == pytest.approx(0.99)
        growth = [(b - a) for a, b in pairwise(taus)]
        ratios = [b / a for a, b in pairwise(growth)]
        assert ratios == pytest.approx([math.exp(0.25)] * 3)

    def test_gradient_of_activations_passes_their_spread(self):
        """Against the derivative of the parabola of the standardised values."""
        values = torch.randn((2, 1, 3, 3), generator=rng(), dtype=torch.float64)
        heads = torch.randn(values.shape, generator=rng(1), dtype=torch.float64)

        def surrogate(x: Tensor) -> Tensor:
            unit = x / (x.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
            size = unit.abs().clamp_max(1)
            return (heads * torch.sign(unit) * (2 * size - size**2)).sum()

        given = values.clone().requires_grad_()
        (heads * ReCU().activation_signs(given, 0.0)).sum().backward()
        (expected,) = torch.autograd.grad(surrogate(leaf := values.requires_grad_()), leaf)
        torch.testing.assert_close(given.grad, expected)


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.name)
def test_scales_are_nearest_to_the_weights(estimator):
    """The scale that minimises |W - scale sign(W)|^2, per output channel or for the layer."""
    weight = torch.randn((4, 3, 3, 3), generator=rng(), dtype=torch.float64)
    rows, signs = weight.flatten(1).numpy(), np.sign(weight.flatten(1).numpy())
    if estimator.scale_of_layer:
        [best], *_ = np.linalg.lstsq(signs.reshape(-1, 1), rows.reshape(-1), rcond=None)
        expected = [best] * 4
    else:
        expected = [np.linalg.lstsq(s[:, None], r, rcond=None)[0][0] for r, s in zip(rows, signs)]  # noqa: B905
    assert estimator.scale(weight).tolist() == pytest.approx(expected)
    assert not estimator.scale(weight.requires_grad_()).requires_grad


class TestNoise:
    def test_e_of_weights_and_activations_against_loops(self):
        options = NoiseOptions(reduction=2, shortcut=0.3)
        module = NoiseAdaptation(4, options, axis=1)
        values = torch.randn((2, 4, 3, 3), generator=rng())
        w1, w2 = module.reduce.weight.detach().numpy(), module.expand.weight.detach().numpy()
        assert w1.shape == (2, 4)
        expected = np.zeros(values.shape)
        for b, y, x in np.ndindex(2, 3, 3):
            t = values[b, :, y, x].numpy()
            expected[b, :, y, x] = w2 @ np.maximum(w1 @ t, 0) + 0.3 * np.sin(t)
        np.testing.assert_allclose(module(values).detach().numpy(), expected, atol=1e-6)
        rows = values[:, :, 0, 0]
        np.testing.assert_allclose(module(rows).detach(), expected[:, :, 0, 0], atol=1e-6)

    def test_narrow_layers_keep_a_hidden_unit(self):
        module = NoiseAdaptation(16, NoiseOptions(), axis=-1)
        assert module.reduce.weight.shape == (1, 16)
        assert isinstance(module, nn.Module)

    def test_share_falls_to_exactly_zero(self):
        shares = [NoiseOptions(share=0.2).share_at(step / 9) for step in range(10)]
        assert shares[0] == pytest.approx(0.2)
        assert shares[-1] == 0.0
        assert shares == sorted(shares, reverse=True)
        assert min(shares[:-1]) > 0
