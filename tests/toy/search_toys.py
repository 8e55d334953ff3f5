"""Short ways to make samplers and evaluators of the toy space."""

from __future__ import annotations

from typing import Any

import optuna
from nasplatform_toy import Bits, BitsEvaluator, BitsEvaluatorOptions, BitsOptions, Ridge

from nasplatform.search import (
    ArchitectureSampler,
    OptimizationConfig,
    SamplerContext,
)
from nasplatform.search.evolution import RegularizedEvolution
from nasplatform.search.local_search import LocalSearch
from nasplatform.search.optuna_samplers import NSGA2, TPE
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.search.random_sampler import RandomSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)
SAMPLERS = (RandomSampler, TPE, NSGA2, RegularizedEvolution, LocalSearch, PredictorSampler)
SEVERAL = tuple(kind for kind in SAMPLERS if kind.several_objectives)


def toy_sampler(
    kind: type[ArchitectureSampler[Any]],
    evaluator: BitsEvaluator,
    seed: int = 0,
    optimization: OptimizationConfig[Any] | None = None,
    **options: Any,
) -> ArchitectureSampler[Any]:
    """Make a sampler as a search file does."""
    first = {"initial": 6} if "initial" in kind.Options.model_fields else {}
    chosen = kind.Options(**{**first, **options})
    context = SamplerContext(evaluator.space, seed, evaluator.candidates, Ridge(), optimization)
    return kind.from_options(chosen, context)


def toy_evaluator(n: int = 8, *, enumerable: bool = True, **options: Any) -> BitsEvaluator:
    return BitsEvaluator(
        BitsEvaluatorOptions(**options), Bits(BitsOptions(n=n, enumerable=enumerable))
    )
