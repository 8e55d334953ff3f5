"""Scores architectures by a training-free proxy: seconds in place of hours, and often misled."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.errors import ConfigError
from nasplatform.evaluators.base import Evaluation, EvaluationContext, Evaluator
from nasplatform.evaluators.proxies import PROXIES
from nasplatform.spaces.base import Space
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.task import Task


class ProxyOptions(BaseModel):
    """Which proxy, and how many images it sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy: Literal["jacov", "naswot", "synflow", "zico", "params", "flops"] = Field(
        description="jacov and naswot (Mellor et al.), synflow, ZiCo, or the costs alone"
    )
    batch_size: int = Field(64, ge=4, description="training images that it sees (synflow: none)")


class ProxyEvaluator(Evaluator[Any]):
    """Scores an architecture by a proxy of its untrained network; nothing is trained.

    Weights and images follow from the seed alone. Fidelity is 0 epochs. An architecture whose
    network answers all images alike is an ``Evaluation`` with an ``error``.
    """

    name: ClassVar[str] = "proxy"
    Options: ClassVar[type[ProxyOptions]] = ProxyOptions
    needs_task: ClassVar[bool] = True
    options: ProxyOptions
    fidelities: tuple[int, ...] = (0,)

    def __init__(
        self, options: ProxyOptions, space: Space[Any], context: EvaluationContext | None = None
    ) -> None:
        """Take the proxy, the space and a context with a task; raise ConfigError without one."""
        if context is None or context.task is None:
            raise ConfigError(f"evaluator {self.name!r} shows images: it needs a task")
        self.data: Task = context.task
        self.device = context.device
        super().__init__(options, space.with_input(self.data.input_shape, self.data.classes))
        self.score_metric = options.proxy
        seen = f"{options.proxy}-{options.batch_size}"
        self.task = f"{self.data.name}/{seen}@{self.data.digest[:12]}"

    @classmethod
    def from_options(cls, options: Any, space: Space[Any], context: EvaluationContext) -> Self:
        """Make the evaluator that a search file describes; raise ConfigError without a task."""
        return cls(options, space, context)

    def evaluate(self, architecture: Any, fidelity: int, seed: int) -> Evaluation:
        """Score one architecture."""
        begun, name = perf_counter(), self.options.proxy
        if name in ("params", "flops"):
            graphs = self.space.graphs([architecture])
            costs = graphs.total_params if name == "params" else graphs.total_flops
            return Evaluation(float(costs[0]), seconds=perf_counter() - begun)
        rng = torch.Generator().manual_seed(derive_seed(seed, 0))
        rows = torch.randperm(len(self.data.train), generator=rng)[: self.options.batch_size]
        images = self.data.train.inputs[rows].to(self.device)
        labels = self.data.train.labels[rows].to(self.device)
        with seeded(seed, self.device):
            module = self.space.build(architecture).to(self.device)
            score = PROXIES[name](module, images, labels)
        seconds = perf_counter() - begun
        if not math.isfinite(score):
            words = f"{name} is not finite: the network answers all images alike"
            return Evaluation(float("nan"), error=words, seconds=seconds)
        return Evaluation(score, seconds=seconds)
