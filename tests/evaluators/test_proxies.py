"""Proxies against what they are by hand, and the evaluator that scores by them."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasplatform.errors import ConfigError
from nasplatform.evaluators.base import EvaluationContext, Evaluator
from nasplatform.evaluators.proxies import Proxy, jacov, naswot, synflow, zico
from nasplatform.evaluators.proxy import ProxyEvaluator, ProxyOptions
from nasplatform.spaces import get_space
from nasplatform.testing.evaluators import EvaluatorContract
from nasplatform.testing.tiny import tiny_task

SPACE = get_space("nasbench201", cells_per_stage=1, stem_channels=4)
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def evaluator(**options: Any) -> ProxyEvaluator:
    chosen = ProxyOptions.model_validate({"proxy": "naswot", "batch_size": 8, **options})
    return ProxyEvaluator.from_options(chosen, SPACE, EvaluationContext(None, tiny_task()))


class TestProxy(EvaluatorContract):
    variants = (
        *({"proxy": name} for name in ("az-nas", "jacov", "synflow", "zico", "params", "flops")),
        {"batch_size": 12},
    )

    def evaluator(self, folder: Path, **options: Any) -> Evaluator[Any]:
        return evaluator(**options)

    def some(self, evaluator: Evaluator[Any]) -> Any:
        texts = ("333333", "313333", "331333")
        return evaluator.space.population([evaluator.space.parse(text) for text in texts])


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2),
    )  # fmt: skip


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 4, 4, generator=generator), torch.tensor([0, 1, 1, 0, 1, 0])


def test_naswot_counts_rectifiers_that_agree(network: nn.Module, batch: Any) -> None:
    images, labels = batch
    found = naswot(copy.deepcopy(network), images, labels)
    network.train()
    first = network[:2](images)
    second = network[:5](images)
    codes = torch.cat([(first > 0).flatten(1), second > 0], 1).tolist()
    agreeing = [[sum(a == b for a, b in zip(x, y, strict=True)) for y in codes] for x in codes]
    assert found == pytest.approx(np.linalg.slogdet(np.array(agreeing, float))[1])


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish])
def test_naswot_counts_every_kind_of_rectifier(kind: type[nn.Module], batch: Any) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(16, 64)
    found = [
        naswot(nn.Sequential(nn.Flatten(), linear, rectifier), *batch)
        for rectifier in (nn.ReLU(), kind())
    ]
    assert found[0] == found[1]
    assert math.isfinite(found[0])


@pytest.mark.parametrize("proxy", [jacov, naswot, zico])
def test_nothing_is_dropped(proxy: Proxy, network: nn.Module, batch: Any) -> None:
    plain, dropped = network, copy.deepcopy(network)
    dropped.insert(3, nn.Dropout(0.5))
    assert proxy(plain, *batch) == proxy(dropped, *batch)


def test_jacov_is_of_the_correlations_of_slopes(network: nn.Module, batch: Any) -> None:
    images, labels = batch
    slopes = []
    for row in range(6):
        step = torch.zeros_like(images)
        rows = []
        for pixel in range(16):
            step.zero_()
            step[row].view(-1)[pixel] = 1e-3
            ends = [
                float(
                    copy.deepcopy(network)
                    .double()
                    .train()((images + sign * step).double())
                    .sum()
                    .detach()
                )
                for sign in (1, -1)
            ]
            rows.append((ends[0] - ends[1]) / 2e-3)
        slopes.append(rows)
    values = np.linalg.eigvalsh(np.corrcoef(slopes))
    expected = -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5))
    assert jacov(network, images, labels) == pytest.approx(expected, rel=0.05)


def test_jacov_is_highest_where_all_slopes_differ(batch: Any) -> None:
    images, labels = batch
    alike = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))  # one slope, whatever the image
    torch.manual_seed(0)
    unlike = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 2))
    assert jacov(unlike, images, labels) > jacov(alike, images, labels) + 1000


def test_synflow_is_the_product_of_magnitudes(batch: Any) -> None:
    """Of two linear layers each path is a product of two weights, and counts once for each."""
    torch.manual_seed(0)
    first, second = nn.Linear(16, 4, bias=False), nn.Linear(4, 2, bias=False)
    flow = second.weight.detach().abs() @ first.weight.detach().abs()
    found = synflow(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), *batch)
    assert found == pytest.approx(math.log(2 * float(flow.sum())), rel=1e-5)


def test_synflow_counts_no_normalisation(network: nn.Module, batch: Any) -> None:
    found = synflow(copy.deepcopy(network), *batch)
    positive = network.double().eval()
    for parameter in positive.parameters():
        parameter.data.abs_()
    positive(torch.ones(1, 1, 4, 4, dtype=torch.float64)).sum().backward()
    flows = [positive[place].weight for place in (0, 4, 6)]
    total = sum(float((one.detach() * one.grad).abs().sum()) for one in flows)
    assert found == pytest.approx(math.log(total))


def test_zico_is_the_ratio_of_mean_and_deviation(network: nn.Module, batch: Any) -> None:
    images, labels = batch
    found = zico(copy.deepcopy(network), images, labels)
    total = 0.0
    for name in ("0.weight", "4.weight", "6.weight"):
        gradients = []
        for part in (slice(0, 3), slice(3, 6)):
            module = copy.deepcopy(network).train()
            nn.functional.cross_entropy(module(images[part]), labels[part]).backward()
            gradients.append(dict(module.named_parameters())[name].grad.flatten().numpy())
        both = np.stack(gradients)
        spread = both.std(0)
        moved = spread > 0
        total += math.log((np.abs(both).mean(0)[moved] / spread[moved]).sum())
    assert found == pytest.approx(total, rel=1e-4)


def test_costs_are_the_spaces_own() -> None:
    cell = SPACE.parse("333123")
    for name in ("params", "flops"):
        one = evaluator(proxy=name)
        attributes = one.attributes(one.space.population([cell]))
        assert one.evaluate(cell, 0, 0).score == attributes[name][0]


def test_images_and_weights_follow_from_the_seed() -> None:
    one, cell = evaluator(proxy="zico"), SPACE.parse("333333")
    scores = [one.evaluate(cell, 0, seed).score for seed in (0, 1, 0)]
    assert scores[0] == scores[2] != scores[1]


@pytest.mark.parametrize("name", ["jacov", "naswot", "synflow", "zico"])
def test_a_network_that_answers_all_images_alike_is_an_error_with_words(name: str) -> None:
    found = evaluator(proxy=name).evaluate(SPACE.parse(DEAD), 0, 0)
    assert math.isnan(found.score)
    assert found.error == f"{name} is not finite: the network answers all images alike"


def test_without_a_task_it_says_so() -> None:
    options = ProxyOptions(proxy="jacov")
    with pytest.raises(ConfigError, match="evaluator 'proxy' shows images: it needs a task"):
        ProxyEvaluator.from_options(options, SPACE, EvaluationContext())
