"""A stage in one file: rounds weights to few significant bits, so that they compress well."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.models.network import Network
from nasplatform.stages.base import Stage, StageContext, StageResult
from nasplatform.training.task import Task


class RoundOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    bits: int = Field(4, ge=1, le=23, description="significant bits that each weight keeps")


class RoundWeights(Stage):
    """The structure stays; a stage that changes layers hands on an ``Edit`` as well."""

    name: ClassVar[str] = "round-weights"
    Options: ClassVar[type[BaseModel]] = RoundOptions

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        rounded = network.copy()  # the network that was given is never changed
        change = 0.0
        with torch.no_grad():
            for weights in rounded.module.parameters():
                fraction, exponent = torch.frexp(weights)
                scale = 2.0**self.options.bits
                new = torch.ldexp((fraction * scale).round() / scale, exponent)
                change = max([change, *(new - weights).abs().flatten().tolist()])
                weights.copy_(new)
        context.progress(1, 1, "rounded")
        return StageResult(rounded, {"largest_change": change})
