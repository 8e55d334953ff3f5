"""A training step with the series costs hardly more than straight through, whatever n."""

from time import perf_counter

import numpy as np
import torch
from torch import nn

from nasplatform.models.network import Network
from nasplatform.stages.binarize.estimators import Estimator, Fourier, StraightThrough
from nasplatform.stages.binarize.layers import Binarisation, with_latent_layers
from nasplatform.stages.binarize.roles import roles
from nasplatform.stages.binarize.structure import names_after, signing_edit

SHAPE = (3, 32, 32)
ROUNDS = 15


def latent(estimator: Estimator) -> nn.Module:
    module = Network.named("resnet", depth=8).module
    parts = roles(module, SHAPE)
    edit = signing_edit(module, parts, SHAPE, shortcuts=True)
    plain = dict.fromkeys(names_after(edit, parts.chosen))
    made = with_latent_layers(edit.apply(module), plain, Binarisation(estimator))
    return made.train().to(memory_format=torch.channels_last)


def test_step_is_as_fast_for_any_number_of_terms(benchmark):
    """ResNet-8 on 64 images of 32 x 32; medians of steps taken in turn."""
    estimators = (StraightThrough(), Fourier(), Fourier(terms=(1000, 1000)))
    modules = [latent(estimator) for estimator in estimators]
    images = torch.randn(64, *SHAPE).contiguous(memory_format=torch.channels_last)

    def step(module: nn.Module) -> float:
        begin = perf_counter()
        module(images).logsumexp(1).mean().backward()
        return perf_counter() - begin

    def turns() -> np.ndarray:
        return np.median([[step(module) for module in modules] for _ in range(ROUNDS)], axis=0)

    straight, few, many = benchmark.pedantic(turns, warmup_rounds=1)
    ratios = {"series": few / straight, "thousand_terms": many / few}
    benchmark.extra_info.update({name: round(float(x), 3) for name, x in ratios.items()})
    assert ratios["series"] < 1.3
    assert 0.85 < ratios["thousand_terms"] < 1.15
