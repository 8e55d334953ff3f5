"""What the stages have in common: where noise goes, how it grows, and the training around it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.stages.base import Stage, StageContext, StageResult
from nasplatform.stages.dataflow import FeaturePoint, feature_points
from nasplatform.stages.regularisation.injection import Injection, Noise, Place
from nasplatform.stages.train import training_metrics
from nasplatform.training.loop import train
from nasplatform.training.objective import Supervised
from nasplatform.training.recipe import Recipe
from nasplatform.training.streams import check_recipe
from nasplatform.training.task import Task
from nasplatform.training.weighting import training_loss


class RegularisationOptions(BaseModel):
    """Options of every training with noise on feature maps."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe = Recipe()
    """How to train."""
    layers: Literal["maps", "linear"] = "maps"
    """What gets noise: feature maps, tokens included, or the vectors between linear layers."""
    placement: Literal["last-stage", "last-two-stages"] = "last-stage"
    """Which maps: the smallest (Disout on CIFAR), or the two smallest sizes, where the larger of
    the two gets a quarter of the probability (ImageNet)."""
    position: Literal["before-normalisation", "after-activation"] = "after-activation"
    """Right after the layer (Disout on CIFAR), or after the normalisation and activation modules
    that follow it (ImageNet)."""
    schedule: Literal["linear", "constant"] = "linear"
    """The probability grows from 0 over all steps, or is the same all the time."""
    start: Literal["scratch", "given"] = "scratch"
    """Train new weights, as the papers do, or go on from those of the network given."""


class NoisyTraining(Stage):
    """Train the network with noise on feature maps; what is deployed has the same structure.

    It takes the place of ``train``: with ``start: scratch`` the weights given are not used.
    """

    Options: ClassVar[type[RegularisationOptions]]
    options: RegularisationOptions

    @property
    @abstractmethod
    def prob(self) -> float:
        """Share of a map that gets noise at the end of the schedule."""

    @abstractmethod
    def noise(self, point: FeaturePoint) -> Noise:
        """Return what is done to a feature map."""

    def describe(self, points: Sequence[FeaturePoint]) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return metrics and notes of the method itself."""
        return {}, ()

    def check(self, task: Task, device: str) -> None:
        """Raise TrainingError where the recipe asks for what task or device do not allow."""
        check_recipe(task, self.options.recipe, device)

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the trained network; raise StageError where nothing got noise."""
        options = self.options
        scratch = options.start == "scratch"
        trained = network.fresh(context.seed) if scratch else network.copy()
        after = options.position == "after-activation"
        points = feature_points(trained.module, task.input_shape, after)
        places = [
            Place(point, self.noise(point), prob)
            for point, prob in placed(points, options, self.prob)
        ]
        if not places:
            raise StageError(f"{self.name} {_nothing(points, options)}")
        injection = Injection(
            Supervised(training_loss(task, options.recipe)),
            places,
            context.seed,
            linear=options.schedule == "linear",
        )
        with injection.installed(trained.module):
            history = train(
                trained.module,
                task,
                options.recipe,
                context.seed,
                device=context.device,
                checkpoint=context.checkpoint,
                progress=context.progress,
                objective=injection,
                on_step=injection.on_step,
                tag=f"{self.name} {options.model_dump_json()}",
            )
        acted = [place.point for place, times in zip(places, injection.done, strict=True) if times]
        if not acted:
            raise StageError(
                f"{self.name} distorted nothing: in {injection.steps} training steps none of "
                f"{len(places)} feature maps was computed with a probability above 0"
            )
        metrics, notes = self.describe(acted)
        counts = {"distorted_maps": float(len(acted)), "distortions": float(sum(injection.done))}
        return StageResult(
            trained,
            training_metrics(history) | counts | metrics,
            notes=(*_gridless(acted), *notes),
            curve=history.curve(),
        )


def placed(
    points: Sequence[FeaturePoint], options: RegularisationOptions, prob: float
) -> list[tuple[FeaturePoint, float]]:
    """Return the maps that get noise, each with the probability at the end of the schedule."""
    chosen = [point for point in points if point.vector == (options.layers == "linear")]
    areas = sorted({_area(point) for point in chosen})
    shares = dict(zip(areas, (1.0, 0.25), strict=False))
    if options.placement == "last-stage":
        shares = dict.fromkeys(areas[:1], 1.0)
    return [(point, shares[_area(point)] * prob) for point in chosen if _area(point) in shares]


def _area(point: FeaturePoint) -> int:
    return point.shape[1] * point.shape[2]


def _nothing(points: Sequence[FeaturePoint], options: RegularisationOptions) -> str:
    if options.layers == "linear":
        return "found no hidden linear layer, so nothing to distort: 'layers: maps' takes maps"
    words = (
        "found no feature map to distort: gates, classifiers and what is computed of pooled maps "
        "are none"
    )
    if points:
        words += f"; 'layers: linear' distorts the vectors of {len(points)} hidden linear layers"
    return words


def _gridless(points: Sequence[FeaturePoint]) -> tuple[str, ...]:
    column = [
        point.name for point in points if point.layout.places is not None and point.shape[2] == 1
    ]
    if not column:
        return ()
    return (
        f"the tokens of {column[0]!r} and {len(column) - 1} others form no grid that could be "
        "told: distorted token by token",
    )
