"""Scores architectures by a training-free proxy: seconds in place of hours, and often misled."""

from __future__ import annotations

import math
from functools import cached_property
from time import perf_counter
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nasplatform.errors import ConfigError
from nasplatform.evaluators.az_nas import PARTS, az_nas, log_ranks
from nasplatform.evaluators.base import Evaluation, EvaluationContext, Evaluator
from nasplatform.evaluators.proxies import PROXIES
from nasplatform.spaces.base import Space
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.task import Task

POOL = 50  # architectures that az-nas ranks an architecture among


class ProxyOptions(BaseModel):
    """Which proxy, and how many images it sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy: Literal["az-nas", "jacov", "naswot", "synflow", "zico", "params", "flops"] = Field(
        description="AZ-NAS, jacov and naswot (Mellor et al.), synflow, ZiCo, or the costs alone"
    )
    batch_size: int = Field(64, ge=4, description="training images that it sees (synflow: none)")


class ProxyEvaluator(Evaluator[Any]):
    """Scores an architecture by a proxy of its untrained network; nothing is trained.

    Weights and images follow from the seed alone. Fidelity is 0 epochs. An architecture whose
    network answers all images alike is an ``Evaluation`` with an ``error``.

    AZ-NAS ranks a population, and a score must stand alone: that of an architecture is the one it
    has among 50 others that the space samples with seed 0, whose networks are looked at when the
    first score is asked for. Its parts are metrics; ``az_nas.log_ranks`` ranks any population.
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
        if options.proxy == "az-nas" and type(space).blocks is Space.blocks:
            raise ConfigError(
                f"proxy 'az-nas' looks at blocks: space {space.name!r} has no method 'blocks' that "
                f"says which layers of its networks they are"
            )
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

    def metrics(self) -> tuple[str, ...]:
        """Return the parts of AZ-NAS but the FLOPs, which are an attribute."""
        return PARTS if self.options.proxy == "az-nas" else ()

    def evaluate(self, architecture: Any, fidelity: int, seed: int) -> Evaluation:
        """Score one architecture."""
        begun, name = perf_counter(), self.options.proxy
        parts: dict[str, float] = {}
        if name in ("params", "flops"):
            score = self._cost(architecture)
        elif name == "az-nas":
            parts = self.parts(architecture, seed)
            row = np.array([*parts.values(), self._cost(architecture)])
            whole = bool(np.isfinite(row).all())
            score = float(log_ranks(np.vstack([self._pool, row]))[-1]) if whole else math.nan
        else:
            with seeded(seed, self.device):
                module = self.space.build(architecture).to(self.device)
                score = PROXIES[name](module, *self._batch(seed))
        seconds = perf_counter() - begun
        if not math.isfinite(score):
            words = f"{name} is not finite: the network answers all images alike"
            return Evaluation(float("nan"), error=words, seconds=seconds)
        return Evaluation(score, parts, seconds=seconds)

    def parts(self, architecture: Any, seed: int) -> dict[str, float]:
        """Return the three parts of AZ-NAS that look at the network, NaN where it is dead."""
        images, _ = self._batch(seed)
        with seeded(seed, self.device):
            module = self.space.build(architecture).to(self.device)
            return az_nas(module, self.space.blocks(module), images)

    def _batch(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return training images and their labels."""
        rng = torch.Generator().manual_seed(derive_seed(seed, 0))
        rows = torch.randperm(len(self.data.train), generator=rng)[: self.options.batch_size]
        inputs, labels = self.data.train.inputs[rows], self.data.train.labels[rows]
        return inputs.to(self.device), labels.to(self.device)

    def _cost(self, architecture: Any) -> float:
        """Return the parameters, or for any other proxy the FLOPs."""
        graphs = self.space.graphs([architecture])
        return float(
            (graphs.total_params if self.options.proxy == "params" else graphs.total_flops)[0]
        )

    @cached_property
    def _pool(self) -> NDArray[np.float64]:
        """Return (50, 4) the parts and FLOPs of architectures drawn from the space."""
        drawn = self.space.sample(POOL, np.random.default_rng(0))
        rows = [[*self.parts(one, 0).values(), self._cost(one)] for one in drawn]
        return np.array(rows)
