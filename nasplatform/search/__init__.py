"""Optuna samplers driven by a predictor, the loop around them, and what it remembers."""

from __future__ import annotations

from nasplatform.search.base import ArchitectureSampler, Proposal, Setting
from nasplatform.search.facts import Facts, Step
from nasplatform.search.goals import Goals
from nasplatform.search.history import History
from nasplatform.search.loop import search
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.search.random_sampler import RandomSampler
from nasplatform.search.storage import open_study
from nasplatform.search.store import EvaluationKey, EvaluationStore

__all__ = [
    "ArchitectureSampler",
    "EvaluationKey",
    "EvaluationStore",
    "Facts",
    "Goals",
    "History",
    "PredictorSampler",
    "Proposal",
    "RandomSampler",
    "Setting",
    "Step",
    "open_study",
    "search",
]
