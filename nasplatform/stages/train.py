"""The first stage of most pipelines: train the chosen network from scratch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from nasplatform.models.network import Network
from nasplatform.stages.base import Stage, StageContext, StageResult
from nasplatform.training.distributed import check_processes
from nasplatform.training.loop import History, train
from nasplatform.training.recipe import Recipe
from nasplatform.training.streams import check_recipe
from nasplatform.training.task import Task


class TrainOptions(BaseModel):
    """Options of ``train``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe = Recipe()
    """How to train."""
    processes: int = Field(1, ge=1)
    """Processes of this machine that train together, each on its share of every batch (CPU)."""


class Train(Stage):
    """Train the network's structure from new weights, which follow from the seed."""

    name: ClassVar[str] = "train"
    Options: ClassVar[type[BaseModel]] = TrainOptions
    options: TrainOptions

    def check(self, task: Task, device: str) -> None:
        """Raise TrainingError where the recipe asks for what task or device do not allow."""
        check_recipe(task, self.options.recipe, device)
        check_processes(self.options.processes, device, self.options.recipe.batch_size)

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the trained network; raise TrainingError where the loss diverges."""
        trained = network.fresh(context.seed)
        history = train(
            trained.module,
            task,
            self.options.recipe,
            context.seed,
            device=context.device,
            checkpoint=context.checkpoint,
            progress=context.progress,
            processes=self.options.processes,
        )
        return StageResult(trained, training_metrics(history), curve=history.curve())


def training_metrics(history: History) -> dict[str, float]:
    """Return what a training came to, in the form of ``StageResult.metrics``."""
    last = history.epochs[-1]
    return {
        "epochs": float(last.epoch),
        "train_loss": last.train_loss,
        "valid_accuracy": last.valid_accuracy,
        "training_seconds": history.seconds,
        **last.metrics,
    }
