"""Optuna samplers driven by a predictor, the loop around them, and what it remembers."""

from __future__ import annotations

from nasplatform.search.base import ArchitectureSampler, Proposal, SamplerContext
from nasplatform.search.history import History
from nasplatform.search.loop import search
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.search.random_sampler import RandomSampler
from nasplatform.search.storage import open_study
from nasplatform.search.trial_record import Step, TrialRecord

__all__ = [
    "ArchitectureSampler",
    "History",
    "OptimizationConfig",
    "PredictorSampler",
    "Proposal",
    "RandomSampler",
    "SamplerContext",
    "Step",
    "TrialRecord",
    "open_study",
    "search",
]
