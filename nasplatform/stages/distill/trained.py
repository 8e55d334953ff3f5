"""A teacher of another kind, such as a convolutional one for a transformer: trained first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from nasplatform.models.network import Network
from nasplatform.models.networks.base import suited
from nasplatform.stages.base import StageContext
from nasplatform.stages.train import Train, TrainOptions
from nasplatform.training.recipe import Recipe
from nasplatform.training.task import Task


class TrainedTeacher(BaseModel):
    """A registered network, its options beside its name, and how it is trained.

    It learns from the images whose labels the stage may use.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    """Of a registered network."""
    recipe: Recipe = Recipe()
    """How to train it."""

    @property
    def own_options(self) -> dict[str, Any]:
        """The options of the network."""
        return dict(self.model_extra or {})

    def untrained(self, task: Task, seed: int) -> Network:
        """Return the network for the images of a task.

        Raises PluginError for an unknown name, ConfigError for bad options.
        """
        options = suited(self.name, self.own_options, task.input_shape, task.classes)
        return Network.named(self.name, seed, **options)

    def check(self, task: Task, device: str) -> None:
        """Raise TrainingError where the recipe asks for what task or device do not allow."""
        self._training.check(task, device)

    def trained(self, task: Task, context: StageContext) -> Network:
        """Return the trained network; one that was killed in training goes on from there."""
        inner = replace(context, folder=context.scratch / "teacher")
        inner.folder.mkdir(parents=True, exist_ok=True)
        network = self.untrained(task, context.seed)
        return self._training.apply(network, task, inner).network

    @property
    def _training(self) -> Train:
        return Train(TrainOptions(recipe=self.recipe))
