"""What a network may cost after channels are removed, and by how much it does not yet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from nasplatform.models.costs import count_parameters
from nasplatform.pruning.graph import ChannelGraph, Groups, cost
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.runtimes.measure import latency
from nasplatform.training.flops import count_macs

NOISE = 0.03
"""Share of a latency within which two measurements are taken for equal, at least."""


class Budget(BaseModel):
    """What the network may cost afterwards, as a share of what it costs before."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: Literal["macs", "params", "latency_ms"] = "macs"
    """Multiply-adds, parameters, or the measured time of one image on one thread of the CPU."""
    keep: float = Field(gt=0, lt=1)
    """Share that may be left, e.g. 0.45 for a cut by 55 %."""

    def __str__(self) -> str:
        return f"a budget of {self.keep} of the {self.metric}"


@dataclass(frozen=True)
class Size:
    """Multiply-adds for one image, and parameters, of a whole network."""

    macs: int
    params: int

    @classmethod
    def of(cls, module: nn.Module, input_shape: tuple[int, int, int]) -> Size:
        """Count them."""
        return cls(count_macs(module, input_shape), count_parameters(module, input_shape))


@dataclass(frozen=True)
class Goal:
    """A cost to come down to.

    words:     what it is, for messages.
    excess:    by how much it is exceeded when groups are removed, at most 0 where it is met.
    tolerance: excess that measurements cannot tell from 0.
    report:    numbers for the report.
    """

    words: str
    excess: Callable[[Groups], float]
    tolerance: float = 0.0
    report: tuple[tuple[str, float], ...] = ()


def counted_goal(
    module: nn.Module,
    graph: ChannelGraph,
    input_shape: tuple[int, int, int],
    budget: Budget,
    most: float,
) -> Goal:
    """Return the goal of at most that many multiply-adds or parameters."""
    traced = getattr(cost(graph, np.zeros(0, np.int64)), budget.metric)
    untraced = getattr(Size.of(module, input_shape), budget.metric) - traced

    def excess(removed: Groups) -> float:
        return float(untraced + getattr(cost(graph, removed), budget.metric) - most)

    return Goal(str(budget), excess)


def timed_goal(
    module: nn.Module,
    graph: ChannelGraph,
    input_shape: tuple[int, int, int],
    budget: Budget,
    share: float,
    runtime: str | None = None,
) -> Goal:
    """Return the goal of a share of the latency that is measured now.

    What differs by less than the range between the quartiles, or 3 %, is taken for equal.
    """
    now = latency(module, input_shape, runtime)
    most = share * now.median_ms
    tolerance = max(NOISE * most, now.iqr_ms * share)

    def excess(removed: Groups) -> float:
        small = remove(copy.deepcopy(module), kept_channels(graph, removed))
        return latency(small, input_shape, runtime).median_ms - most

    report = (("latency_goal_ms", most), ("latency_tolerance_ms", tolerance))
    return Goal(str(budget), excess, tolerance, report)
