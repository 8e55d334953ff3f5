"""Optuna samplers driven by a predictor, the loop around them, and what it remembers."""

from __future__ import annotations

from nasplatform.search.base import ArchitectureSampler, History, Proposal, Setting
from nasplatform.search.loop import Facts, Step, search
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.search.random_sampler import RandomSampler
from nasplatform.search.storage import open_study
from nasplatform.search.store import EvaluationKey, EvaluationStore

__all__ = [
    "ArchitectureSampler",
    "EvaluationKey",
    "EvaluationStore",
    "Facts",
    "History",
    "PredictorSampler",
    "Proposal",
    "RandomSampler",
    "Setting",
    "Step",
    "open_study",
    "search",
]
