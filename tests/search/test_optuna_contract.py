"""Optuna's own contract tests of samplers, on every sampler of ours.

Our samplers decide the parameters of their space; these tests ask for parameters that are not
the space's, so they check that such ones are drawn as Optuna wants them while an architecture is
proposed beside. ``RelativeSamplerTestCase`` hands a search space of its own to ``sample_relative``
and does not apply: ours proposes architectures, whatever it is handed. A study without a single
parameter of the space, which is what these tests make, is refused otherwise (``test_any_study``).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from search_toys import SAMPLERS, SEVERAL, toy_evaluator, toy_sampler

from nasplatform.search import base

SINGLE = tuple(kind for kind in SAMPLERS if not kind.several_objectives)
Make = Callable[[], BaseSampler]


@pytest.fixture(autouse=True)
def foreign_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_require_own", lambda *given: None)


class TestBasic(BasicSamplerTestCase):
    @pytest.fixture(params=SAMPLERS, ids=lambda kind: kind.name)
    def sampler(self, request: pytest.FixtureRequest) -> Make:
        return lambda: toy_sampler(request.param, toy_evaluator(6))


class TestSeveralObjectives(MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=SEVERAL, ids=lambda kind: kind.name)
    def sampler(self, request: pytest.FixtureRequest) -> Make:
        return lambda: toy_sampler(request.param, toy_evaluator(6))


class TestOneObjective(SingleOnlySamplerTestCase):
    @pytest.fixture(params=SINGLE, ids=lambda kind: kind.name)
    def sampler(self, request: pytest.FixtureRequest) -> Make:
        return lambda: toy_sampler(request.param, toy_evaluator(6))
