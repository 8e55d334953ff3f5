"""Really trains each architecture on the task of the search file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from nasplatform.errors import ConfigError, TrainingError
from nasplatform.evaluators.base import (
    Evaluation,
    EvaluationContext,
    Evaluator,
    Report,
    out_of_memory,
)
from nasplatform.runtimes.choice import open_session
from nasplatform.runtimes.measure import latency
from nasplatform.spaces.base import Space
from nasplatform.training.curve import thinned
from nasplatform.training.distributed import check_processes
from nasplatform.training.evaluation import evaluate
from nasplatform.training.loop import Epoch, History, curve_of, train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded
from nasplatform.training.shelf import Shelf, open_shelf
from nasplatform.training.streams import check_recipe
from nasplatform.training.task import Task


class TrainedOptions(BaseModel):
    """How an architecture is trained to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe = Field(default=Recipe(), description="its epochs are the full training")
    fidelities: tuple[int, ...] = Field(
        (), description="shorter trainings that may be asked for, in epochs, ascending"
    )
    latency: bool = Field(
        False,
        description="also measure latency_ms, one image on one thread of this CPU, by the runtime "
        "of the search file",
    )
    processes: int = Field(
        1, ge=1, description="processes of this machine that train a network together (CPU)"
    )
    keep: bool = Field(
        False, description="keep the trained weights of every architecture, not the latest only"
    )

    @field_validator("fidelities")
    @classmethod
    def _ascending(cls, fidelities: tuple[int, ...]) -> tuple[int, ...]:
        if any(b <= a for a, b in zip((0, *fidelities), fidelities, strict=False)):
            raise ValueError("expected positive numbers of epochs in ascending order")
        return fidelities


class TrainedEvaluator(Evaluator[Any]):
    """Scores an architecture by the validation accuracy after training it from scratch.

    Weights and the order of the images follow from the seed alone, so that on a CPU a measurement
    is a pure function of its arguments. A training that was killed goes on from its last epoch.
    One that diverges or runs out of memory is an ``Evaluation`` with an ``error``.
    """

    name: ClassVar[str] = "trained"
    Options: ClassVar[type[TrainedOptions]] = TrainedOptions
    needs_task: ClassVar[bool] = True
    stops_early: ClassVar[bool] = True
    score_metric = "valid_accuracy"
    options: TrainedOptions

    def __init__(
        self, options: TrainedOptions, space: Space[Any], context: EvaluationContext | None = None
    ) -> None:
        """Take the recipe, the space and a context with a task; raise ConfigError without one."""
        if context is None or context.task is None:
            raise ConfigError(f"evaluator {self.name!r} trains networks: it needs a task")
        try:
            check_recipe(context.task, options.recipe, context.device)
            check_processes(options.processes, context.device, options.recipe.batch_size)
        except TrainingError as error:
            raise ConfigError(f"evaluator {self.name!r}: {error}") from None
        if options.fidelities and options.fidelities[-1] >= options.recipe.epochs:
            raise ConfigError(
                f"fidelities end with {options.fidelities[-1]} epochs, expected fewer than the "
                f"recipe's {options.recipe.epochs}"
            )
        self.data: Task = context.task
        self.context = context
        super().__init__(options, space.with_input(self.data.input_shape, self.data.classes))
        self.fidelities = (*options.fidelities, options.recipe.epochs)
        recipe = hashlib.sha256(options.recipe.model_dump_json().encode()).hexdigest()
        self._engine = self._latency_engine()
        measured = self.score_metric + (f"+latency:{self._engine}" if self._engine else "")
        self.task = f"{self.data.name}/{measured}/{recipe[:12]}@{self.data.digest[:12]}"
        self._shelf = self._open_shelf()
        self._done: str | None = None  # the latest training's checkpoint
        self._said: dict[str, float] = {}

    @classmethod
    def from_options(
        cls, options: BaseModel, space: Space[Any], context: EvaluationContext
    ) -> Self:
        """Make the evaluator that a search file describes; raise ConfigError without a task."""
        return cls(TrainedOptions.model_validate(options), space, context)

    def words(self) -> str:
        """Say in a few words what the score is, and of what."""
        return f"{self.score_metric} after {self.target_fidelity} epochs on {self.data.name}"

    def metrics(self) -> tuple[str, ...]:
        """Return the names of what is measured beside the score."""
        return ("valid_accuracy", "test_accuracy", "train_loss") + (
            ("latency_ms",) if self.options.latency else ()
        )

    def with_smaller_batch(self) -> Self | None:
        """Return one with half the batch and half the learning rate (Goyal et al. 2017).

        Its measurements have the metric ``batch_size``.
        """
        recipe = self.options.recipe
        if recipe.batch_size < 4:
            return None
        half = {"batch_size": recipe.batch_size // 2, "learning_rate": recipe.learning_rate / 2}
        options = self.options.model_copy(update={"recipe": recipe.model_copy(update=half)})
        smaller = type(self)(options, self.space, self.context)
        smaller._said = {"batch_size": float(half["batch_size"])}
        return smaller

    def evaluate(self, architecture: Any, fidelity: int, seed: int) -> Evaluation:
        """Train one architecture for ``fidelity`` epochs."""
        return self.evaluate_reporting(architecture, fidelity, seed, lambda epochs, score: False)

    def evaluate_reporting(
        self, architecture: Any, fidelity: int, seed: int, report: Report
    ) -> Evaluation:
        """Train one architecture, report after each epoch but the last, stop where told to."""
        recipe = self.options.recipe.model_copy(update={"epochs": fidelity})
        name = f"{architecture.hash}-e{fidelity}-s{seed}.safetensors"
        checkpoint = self._checkpoint(name)
        told: list[Epoch] = []

        def hear(epoch: Epoch) -> bool:
            told.append(epoch)
            if self._shelf is not None:
                self._shelf.put(name)
            return epoch.epoch < fidelity and report(epoch.epoch, epoch.valid_accuracy)

        try:
            with seeded(seed):
                module = self.space.build(architecture)
            try:
                history = self._train(module, recipe, seed, checkpoint, hear)
            except TrainingError:
                if told or checkpoint is None or not checkpoint.exists():
                    raise
                assert self._shelf is not None  # it gave the checkpoint
                self._shelf.drop(name)  # it was damaged or another training's: begin anew
                history = self._train(module, recipe, seed, checkpoint, hear)
            return self._measured(module, history, fidelity)
        except TrainingError as error:
            return Evaluation(float("nan"), error=str(error), curve=thinned(curve_of(told)))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if self.context.device.startswith("cuda"):
                torch.cuda.empty_cache()
            words = f"out of memory on {self.context.device}"
            return Evaluation(float("nan"), error=words, error_class="memory")

    def _train(
        self,
        module: torch.nn.Module,
        recipe: Recipe,
        seed: int,
        checkpoint: Path | None,
        hear: Any,
    ) -> History:
        return train(
            module,
            self.data,
            recipe,
            seed,
            device=self.context.device,
            checkpoint=checkpoint,
            progress=self.context.progress,
            on_epoch=hear,
            processes=self.options.processes,
        )

    def _measured(self, module: torch.nn.Module, history: History, fidelity: int) -> Evaluation:
        last = history.epochs[-1]
        metrics: dict[str, float] = {
            **self._said,
            "valid_accuracy": last.valid_accuracy,
            "train_loss": last.train_loss,
            "test_accuracy": evaluate(module, self.data, "test", self.context.device),
        }
        module.to("cpu")
        if self.options.latency:
            metrics["latency_ms"] = self._latency_ms(module)
        stopped = last.epoch if last.epoch < fidelity else None
        return Evaluation(
            last.valid_accuracy, metrics, history.seconds, stopped=stopped, curve=history.curve()
        )

    def _latency_engine(self) -> str | None:
        """Return what computes networks of this space, so that all latencies are of one engine."""
        if not self.options.latency:
            return None
        one = self.space.sample(1, np.random.Generator(np.random.PCG64(0)))[0]
        module = self.space.build(one).eval()
        return open_session(module, self.data.input_shape, self.context.runtime).session.runtime

    def _latency_ms(self, module: torch.nn.Module) -> float:
        found = latency(module, self.data.input_shape, self._engine)
        if found.note:
            raise TrainingError(f"no latency: {found.note}")
        return found.median_ms

    def _open_shelf(self) -> Shelf | None:
        if self.context.checkpoints is not None:
            return open_shelf(self.context.checkpoints, self.context.folder)
        return None if self.context.folder is None else Shelf(self.context.folder)

    def _checkpoint(self, name: str) -> Path | None:
        """Return where a training is kept; the one before it is in the store by now."""
        if self._shelf is None:
            return None
        if self._done is not None and not self.options.keep:
            self._shelf.drop(self._done)
        self._done = name
        return self._shelf.take(name)
