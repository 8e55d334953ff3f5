"""AZ-NAS on networks whose spectra and gains are known, on every space, and as an evaluator."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasplatform.errors import ConfigError
from nasplatform.evaluators.az_nas import PARTS, az_nas, gain, log_ranks, spectral_entropy
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.proxy import ProxyEvaluator, ProxyOptions
from nasplatform.spaces import Space, get_space
from nasplatform.testing.tiny import tiny_task

INPUT: dict[str, Any] = {"input_shape": (1, 8, 8), "classes": 3}
SPACES: dict[str, dict[str, Any]] = {
    "nasbench101": {"stem_channels": 4, "modules_per_stack": 1},
    "nasbench201": {"stem_channels": 4, "cells_per_stage": 1},
    "macro-chain": {},
    "vit": {"subspace": "digits"},
}
IMAGES = torch.zeros(64, 4, 8, 8)
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def linear(matrix: Any) -> nn.Conv2d:
    """Return a layer that multiplies each pixel's channels by a matrix."""
    weight = torch.as_tensor(matrix, dtype=torch.float32)
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    layer.weight.data = weight[:, :, None, None]
    return layer


def rotation(channels: int, factor: float) -> nn.Conv2d:
    """Return a layer all of whose gains are one factor."""
    random = np.random.default_rng(0).standard_normal((channels, channels))
    return linear(factor * np.linalg.qr(random)[0])


def parts(*blocks: nn.Module, images: Tensor = IMAGES) -> dict[str, float]:
    torch.manual_seed(0)
    return az_nas(nn.Sequential(*blocks), blocks, images)


def test_entropy_is_of_the_shares_of_the_spectrum() -> None:
    """Two uncorrelated channels, their means not 0, of variance 1 and 3."""
    tokens = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * torch.tensor([1, 3**0.5]) + 7
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert spectral_entropy(tokens.reshape(2, 2, 2)) == pytest.approx(expected, abs=1e-5)
    maps = tokens.reshape(2, 2, 1, 2).movedim(-1, 1)
    assert spectral_entropy(maps) == pytest.approx(expected, abs=1e-5)


def test_expressivity_sums_entropies_and_progressivity_is_the_smallest_rise() -> None:
    two_of_four = linear(np.diag([1, 1, 0, 0]))
    found = parts(rotation(4, 1), rotation(4, 2), two_of_four)
    assert found["expressivity"] == pytest.approx(2 * math.log(4) + math.log(2), abs=0.01)
    assert found["progressivity"] == pytest.approx(math.log(2) - math.log(4), abs=0.01)
    rising = parts(linear(np.eye(4)[:2]), linear(np.eye(2)), linear(np.eye(2)))
    assert rising["progressivity"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("factor", [3, 1 / 3])
def test_trainability_falls_where_gains_leave_one(factor: float) -> None:
    found = parts(rotation(4, 5), rotation(4, factor), rotation(4, factor))
    assert found["trainability"] == pytest.approx(2 - 3 - 1 / 3, abs=0.1)
    assert parts(rotation(4, 5), rotation(4, 1))["trainability"] == pytest.approx(0, abs=0.01)


def test_trainability_is_the_mean_over_blocks() -> None:
    found = parts(rotation(4, 1), rotation(4, 1), rotation(4, 3))
    assert found["trainability"] == pytest.approx((2 - 3 - 1 / 3) / 2, abs=0.1)


@pytest.mark.parametrize(("side", "ceil"), [(8, False), (7, False), (7, True)])
def test_gain_of_a_stride_is_over_all_pixels_that_become_one(side: int, ceil: bool) -> None:
    """A mean of four pixels: each has a quarter of the gradient, the four together a half."""
    pool = nn.AvgPool2d(2, ceil_mode=ceil, count_include_pad=False)
    start = torch.zeros(64, 3, side, side, requires_grad=True)
    assert gain(start, pool(start)) == pytest.approx(0.5, abs=0.25 if ceil else 0.05)


def test_gain_of_tokens_is_that_of_maps() -> None:
    start = torch.zeros(64, 16, 4, requires_grad=True)
    assert gain(start, start @ rotation(4, 3).weight[:, :, 0, 0]) == pytest.approx(3, rel=0.1)
    assert math.isnan(gain(start, start[:, ::4]))


def test_what_passes_all_unchanged_or_nothing_is_not_trained() -> None:
    start = torch.randn(4, 4, 8, 8, requires_grad=True)
    assert gain(start, start.view_as(start)) == 0
    assert gain(start, torch.zeros(4, 4, 8, 8)) == 0
    assert parts(rotation(4, 1), nn.Identity())["trainability"] < -1e5


def test_normalisations_see_the_batch_and_nothing_is_dropped() -> None:
    def block() -> list[nn.Module]:
        return [rotation(4, 1), nn.BatchNorm2d(4)]

    plain = parts(nn.Sequential(*block()), nn.Sequential(*block()))
    dropped = parts(nn.Sequential(*block(), nn.Dropout(0.5)), nn.Sequential(*block()))
    assert plain == dropped
    biased = nn.Sequential(linear(np.diag([1, 10, 0.1, 1])), nn.BatchNorm2d(4))
    assert parts(rotation(4, 1), biased)["expressivity"] == pytest.approx(2 * math.log(4), abs=0.01)


def test_blocks_may_write_into_what_they_are_given() -> None:
    tame, wild = (nn.Sequential(nn.ReLU(inplace), rotation(4, 1)) for inplace in (False, True))
    assert parts(rotation(4, 1), tame) == parts(rotation(4, 1), wild)


def test_ranks_are_summed_as_logarithms() -> None:
    table = np.array([[1, 10, 5], [2, 30, 5], [3, 20, math.nan]])
    ranks = np.array([[1, 1, 2.5], [2, 3, 2.5], [3, 2, 1]])
    np.testing.assert_allclose(log_ranks(table), np.log(ranks / 3).sum(1))


@pytest.mark.parametrize("name", SPACES)
def test_blocks_of_every_space_are_passed_in_order(name: str) -> None:
    space = get_space(name, **SPACES[name], **INPUT)
    for architecture in space.sample(4, np.random.default_rng(0)):
        module = space.build(architecture).eval()
        blocks = list(space.blocks(module))
        passed: list[nn.Module] = []
        for block in blocks:
            block.register_forward_hook(lambda layer, *_, passed=passed: passed.append(layer))
        module(torch.zeros(2, *INPUT["input_shape"]))
        assert passed == blocks
        assert len(blocks) >= 2


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_scored(name: str) -> None:
    space: Space[Any] = get_space(name, **SPACES[name], **INPUT)
    one = evaluator(space)
    cells = space.sample(8, np.random.default_rng(1))
    found = [one.evaluate(cell, 0, 0) for cell in cells]
    alive = [each for each in found if each.error is None]
    assert len({each.score for each in alive}) > 4
    assert all(tuple(each.metrics) == PARTS for each in alive)


def evaluator(space: Space[Any]) -> ProxyEvaluator:
    options = ProxyOptions(proxy="az-nas", batch_size=8)
    return ProxyEvaluator(options, space, EvaluationContext(None, tiny_task()))


def test_a_score_is_a_rank_among_fifty_others() -> None:
    space = get_space("nasbench201", cells_per_stage=1, stem_channels=4)
    one = evaluator(space)
    drawn = one.space.sample(50, np.random.default_rng(0))
    rows = [
        [*one.parts(cell, 0).values(), one.space.graphs([cell]).total_flops[0]] for cell in drawn
    ]
    cell = one.space.parse("333123")
    own = [*one.parts(cell, 7).values(), one.space.graphs([cell]).total_flops[0]]
    expected = log_ranks(np.array([*rows, own], float))[-1]
    found = one.evaluate(cell, 0, 7)
    assert found.score == expected
    assert found.metrics == dict(zip(PARTS, own, strict=False))


def test_a_dead_network_is_an_error_with_words() -> None:
    one = evaluator(get_space("nasbench201", cells_per_stage=1, stem_channels=4))
    found = one.evaluate(one.space.parse(DEAD), 0, 0)
    assert found.error == "az-nas is not finite: the network answers all images alike"


def test_a_space_that_names_no_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    space = get_space("nasbench201")
    monkeypatch.setattr(type(space), "blocks", Space.blocks)
    with pytest.raises(ConfigError, match="space 'nasbench201' has no method 'blocks'"):
        evaluator(space)
