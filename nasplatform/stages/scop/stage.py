"""The stage ``scop``: score channels, remove them for good, fine-tune (arXiv 2010.10732).

What is the paper's: knockoffs, scales, the score, the same rate for every layer, fine-tuning; but
by default the knockoffs are second-order Gaussian ones and no generator's, and the generator's
judge makes one step where KnockoffGAN's makes five.
What is ours: channels are removed in the groups that searched cells and residual sums tie
together, the width of a residual sum included, where the release fills it up with zeros; budgets;
rounds; a teacher; other criteria under the same rules, to compare with.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from nasplatform.atomic_io import write_text
from nasplatform.models.edits import Edit
from nasplatform.models.network import Network
from nasplatform.pruning import importance
from nasplatform.pruning.budgets import Budget, Goal, Size, counted_goal, timed_goal
from nasplatform.pruning.equality import CHECKED_IMAGES, check_equal, masked
from nasplatform.pruning.graph import ChannelGraph, Groups
from nasplatform.pruning.importance import Scores, group_scores
from nasplatform.pruning.selection import (
    Allocation,
    check_reachable,
    enough,
    ranked,
    uniform_rate,
)
from nasplatform.pruning.separation import separated
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph
from nasplatform.stages.base import Stage, StageContext, StageResult
from nasplatform.stages.scop.control import ControlOptions, recalibrate_batchnorm, train_scales
from nasplatform.stages.scop.knockoffs import (
    KnockoffOptions,
    check_kind,
    check_swaps,
    make_knockoffs,
)
from nasplatform.stages.scop.score import scop
from nasplatform.stages.train import training_metrics
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.curve import Curve, joined, thinned
from nasplatform.training.distillation import Distillation, DistillationOptions
from nasplatform.training.evaluation import evaluate
from nasplatform.training.loop import History, train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import derive_seed
from nasplatform.training.streams import check_recipe
from nasplatform.training.task import Task
from nasplatform.training.weighting import training_loss

Criterion = Literal["scop", "random", "l1", "bn_scale", "fpgm", "taylor"]


class ScopOptions(BaseModel):
    """Options of ``scop``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe = Recipe()
    """How to fine-tune, after each round."""
    rate: float | None = Field(default=None, gt=0, lt=1)
    """Share of the channels of every layer that goes (paper); 0.3 without a budget."""
    budget: Budget | None = None
    """What the network may cost afterwards, in place of a rate."""
    allocation: Allocation = "uniform"
    """With a budget: ``uniform``, the same share of every layer, or ``global``, one ranking."""
    round_to: int | None = Field(default=None, ge=1)
    """Keep widths at multiples of this, and below it at its halves (see ``widths``): 16 under
    a budget, for that is what ONNX Runtime computes at a time with AVX-512, so that other widths
    cost as much as the next multiple (8 with AVX2), and what leaves part of a block goes later;
    1, any width, under a rate, as in the paper."""
    criterion: Criterion = "scop"
    """What is dispensable: ``scop``, or a baseline that needs neither knockoffs nor scales."""
    knockoffs: KnockoffOptions = KnockoffOptions()
    """How knockoffs are made."""
    control: ControlOptions = ControlOptions()
    """How the scales are trained."""
    rounds: int = Field(default=1, ge=1)
    """In how many equal parts channels are removed, with fine-tuning after each."""
    teacher: DistillationOptions | None = None
    """Teach with the network that was given, or not at all."""

    @model_validator(mode="after")
    def _one_goal(self) -> ScopOptions:
        if self.rate is not None and self.budget is not None:
            raise ValueError("give rate or budget, not both")
        return self

    @property
    def multiple(self) -> int:
        """``round_to``, or what it is by default."""
        return self.round_to or (1 if self.budget is None else 16)

    @property
    def rate_of_round(self) -> float:
        """The rate that, in every round, comes to the rate in the end."""
        whole = 0.3 if self.rate is None else self.rate
        return float(1 - (1 - whole) ** (1 / self.rounds))


class Scop(Stage):
    """Remove the channels that count no more than their knockoffs, and fine-tune the rest."""

    name: ClassVar[str] = "scop"
    Options: ClassVar[type[BaseModel]] = ScopOptions
    options: ScopOptions

    def check(self, task: Task, device: str) -> None:
        """Raise where recipe or knockoffs ask for what task or device do not allow."""
        check_recipe(task, self.options.recipe, device)
        if self.options.criterion == "scop":
            check_kind(self.options.knockoffs.kind, task.input_shape)

    def check_network(self, network: Network, task: Task, earlier: Sequence[str]) -> None:
        """Raise StageError where no channel can be removed, or the goal cannot be reached.

        What earlier stages leave has at most as many channels, so what cannot be reached here
        cannot be reached then. How fast a network can become is known only when it is timed.
        """
        network = separated(network)
        graph = channel_graph(network.module, task.input_shape)
        budget = self.options.budget
        if budget is None or budget.metric != "latency_ms":
            start = Size.of(network.module, task.input_shape)
            last, context = self.options.rounds - 1, StageContext(Path())
            whole = _Round.at(last, self.options, network, task, context, start)
            whole.check(graph)

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the smaller network.

        Raises StageError where channels cannot be traced or removed, a layer would be left empty,
        or the budget cannot be reached; TrainingError where fine-tuning diverges.
        """
        teacher = network.module if self.options.teacher else None
        start = Size.of(network.module, task.input_shape)
        current, metrics = separated(network), {"groups": 0.0, "groups_removed": 0.0}
        pinned: list[str] = []
        curves: list[Curve] = []
        for number in range(self.options.rounds):
            step = _Round.at(number, self.options, current, task, context, start)
            selection = step.selection()
            current = step.cut(selection["kept"])
            metrics |= selection["metrics"]
            pinned = selection["pinned"]
            metrics["groups_removed"] += selection["groups_removed"]
            metrics["groups"] = max(metrics["groups"], selection["groups"])
            history = step.fine_tune(current, teacher)
            metrics |= training_metrics(history)
            curves.append(history.curve())
        end = Size.of(current.module, task.input_shape)
        metrics["macs_kept"] = end.macs / start.macs
        metrics["params_kept"] = end.params / start.params
        metrics["pinned"] = float(len(pinned))
        notes = tuple(f"pinned: {pin}" for pin in pinned)
        return StageResult(current, metrics, notes=notes, curve=thinned(joined(curves)))


@dataclass(frozen=True)
class _Round:
    """Scoring, cutting and fine-tuning once; what is finished is read from ``folder``."""

    number: int
    options: ScopOptions
    network: Network
    task: Task
    context: StageContext
    folder: Path
    seed: int
    start: Size

    @classmethod
    def at(
        cls,
        number: int,
        options: ScopOptions,
        network: Network,
        task: Task,
        context: StageContext,
        start: Size,
    ) -> _Round:
        parts = (network.structure.to_json(), state_digest(network.module), task.digest)
        asked = repr((*parts, options.model_dump_json(), context.seed, number))
        key = hashlib.sha256(asked.encode()).hexdigest()[:16]
        seed = derive_seed(context.seed, number)
        folder = context.scratch / f"round-{number}-{key}"
        return cls(number, options, network, task, context, folder, seed, start)

    def selection(self) -> dict[str, Any]:
        """Decide what goes: ``kept``, ``groups``, ``groups_removed`` and ``metrics``."""
        path = self.folder / "selection.json"
        with suppress(OSError, ValueError):  # not there yet, or damaged
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return known
        graph = channel_graph(self.network.module, self.task.input_shape)
        goal = self._goal(graph)
        self._check_goal(graph, goal)
        scores, metrics = self._scores(graph)
        removed = self._removed(graph, scores, goal)
        metrics |= dict(goal.report if goal else ())
        kept = kept_channels(graph, removed)
        images = self.task.valid.inputs[:CHECKED_IMAGES]
        small = remove(copy.deepcopy(self.network.module), kept)
        expected = masked(self.network.module, graph, removed)
        metrics["masked_difference"] = check_equal(small, expected, images)
        device = self.context.device
        judged = recalibrate_batchnorm(small, self.task.train.inputs[:], device)
        metrics["valid_accuracy_cut"] = evaluate(judged, self.task, "valid", device)
        numbers = {"groups": len(graph.removable), "groups_removed": len(removed)}
        pinned = [str(pin) for pin in graph.pins]
        found = {"kept": kept, "metrics": metrics, "pinned": pinned, **numbers}
        write_text(path, json.dumps(found))
        return found

    def cut(self, kept: Mapping[str, Any]) -> Network:
        """Return the smaller network with the weights that are left."""
        small = remove(copy.deepcopy(self.network.module), kept)
        return self.network.edited(small, Edit("channels-removed", 1, kept))

    def fine_tune(self, network: Network, teacher: nn.Module | None) -> History:
        """Train the smaller network in place."""
        objective = None
        if teacher is not None and self.options.teacher is not None:
            loss = training_loss(self.task, self.options.recipe)
            objective = Distillation.of(teacher, loss, self.options.teacher, self.context.device)
        return train(
            network.module,
            self.task,
            self.options.recipe,
            self.seed,
            device=self.context.device,
            checkpoint=self.folder / "checkpoint.safetensors",
            progress=self.context.progress,
            objective=objective,
            tag=repr((self.options.teacher, self.number)),
        )

    def _scores(self, graph: ChannelGraph) -> tuple[Scores, dict[str, float]]:
        module, device = self.network.module, self.context.device
        metrics: dict[str, float] = {}
        kind = self.options.criterion
        if kind == "scop":
            scales, metrics = self._scales(graph)
            each = scop(module, graph, scales)
        elif kind == "taylor":
            each = importance.taylor(module, graph, self.task, device)
        elif kind == "random":
            each = importance.random(graph, self.seed)
        else:
            each = {"l1": importance.l1, "bn_scale": importance.bn_scale, "fpgm": importance.fpgm}[
                kind
            ](module, graph)
        return group_scores(graph, each), metrics

    def _scales(self, graph: ChannelGraph) -> tuple[dict[str, Tensor], dict[str, float]]:
        task, device = self.task, self.context.device
        options, progress = self.options.knockoffs, self.context.progress
        sample = make_knockoffs(
            task.train.inputs,
            options,
            derive_seed(self.seed, 1),
            device=device,
            file=self.folder / "generator.safetensors",
            progress=progress,
        )
        check = check_swaps(
            task.train.inputs, sample, options, derive_seed(self.seed, 2), device=device
        )
        scales = train_scales(
            self.network.module,
            [layer.name for layer in graph.producers],
            task,
            sample,
            self.options.control,
            derive_seed(self.seed, 3),
            device=device,
            progress=progress,
        )
        every = torch.cat(list(scales.values()))
        return scales, {
            "swap_accuracy": check.accuracy,
            "knockoff_correlation": check.correlation,
            "scale_mean": float(every.mean()),
            "scale_deviation": float(every.std()),
        }

    def _goal(self, graph: ChannelGraph) -> Goal | None:
        """Return what the network may cost after this round; None under a rate."""
        budget, rounds = self.options.budget, self.options.rounds
        module, shape = self.network.module, self.task.input_shape
        if budget is None:
            return None
        if budget.metric == "latency_ms":
            share = float(budget.keep ** (1 / rounds))
            return timed_goal(module, graph, shape, budget, share, self.context.runtime)
        share = budget.keep ** ((self.number + 1) / rounds)
        most = share * getattr(self.start, budget.metric)
        return counted_goal(module, graph, shape, budget, most)

    def check(self, graph: ChannelGraph) -> None:
        """Raise StageError where no scores could reach what is asked after this round."""
        self._check_goal(graph, self._goal(graph))

    def _check_goal(self, graph: ChannelGraph, goal: Goal | None) -> None:
        """Raise StageError, before anything is trained, where no scores could reach the goal."""
        nothing = np.zeros(len(graph.removable))
        if goal is None:
            self._removed(graph, nothing, goal)
        else:
            check_reachable(ranked(graph, nothing, "uniform", self.options.multiple), goal)

    def _removed(self, graph: ChannelGraph, scores: Scores, goal: Goal | None) -> Groups:
        multiple = self.options.multiple
        if goal is None:
            return uniform_rate(graph, scores, self.options.rate_of_round, multiple)
        return enough(ranked(graph, scores, self.options.allocation, multiple), goal)
