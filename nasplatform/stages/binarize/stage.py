"""The stage ``binarize``: train a network of signs and hand it on as bits (arXiv 2103.00841).

What is the paper's: the Fourier series in the backward pass, the growth of its terms, the noise
adaptation, full precision at both ends and in shortcuts. What is ours: the choice of layers by
their part in any network, rectifiers that go where signs are read, thresholds where they stay.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import nn

from nasplatform.errors import BuildError, MissingExtraError, StageError
from nasplatform.models.network import Network
from nasplatform.runtimes.comparison import alternatives
from nasplatform.stages.base import Stage, StageContext, StageResult, check_floats
from nasplatform.stages.binarize.estimators import AnyEstimator, Fourier
from nasplatform.stages.binarize.layers import Binarisation, with_latent_layers
from nasplatform.stages.binarize.noise import NoiseOptions
from nasplatform.stages.binarize.packing import packed, weight_bits
from nasplatform.stages.binarize.roles import Roles, roles
from nasplatform.stages.binarize.structure import first_shifts, names_after, signing_edit
from nasplatform.stages.train import training_metrics
from nasplatform.training.distillation import Distillation, DistillationOptions
from nasplatform.training.loop import History, train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded
from nasplatform.training.streams import check_recipe
from nasplatform.training.task import Task
from nasplatform.training.weighting import training_loss

CALIBRATED_IMAGES = 256
"""Training images that say where thresholds begin."""


class BinarizeOptions(BaseModel):
    """Options of ``binarize``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe = Recipe()
    """How to train; the paper's on CIFAR-10 is SGD of momentum 0.9, learning rate 0.1, weight decay
    1e-4, 400 epochs, batch 128."""
    estimator: AnyEstimator = Fourier()
    """How a gradient passes the sign: ``{name: fourier, omega, terms, limit}`` or a baseline,
    ``straight-through``, ``dorefa``, ``approx-sign``, ``reste`` or ``recu``."""
    noise: NoiseOptions | None = None
    """Noise adaptation of weights and activations, ``{share, reduction, shortcut}``, or none."""
    thresholds: Literal["needed", "all"] = "needed"
    """Where a threshold per channel is learnt in place of 0 (ReActNet): where inputs of a layer
    have nearly all one sign, or everywhere."""
    shortcuts: bool = False
    """Lead a shortcut around every binary convolution whose output is not narrower (Bi-Real)."""
    start: Literal["given", "scratch"] = "given"
    """Go on from the weights of the network given (BiBench), or train new ones."""
    teacher: DistillationOptions | None = None
    """Teach with the network that was given, or not at all."""


class Binarize(Stage):
    """Train a network whose layers compute with signs; what is deployed holds their bits."""

    name: ClassVar[str] = "binarize"
    Options: ClassVar[type[BaseModel]] = BinarizeOptions
    leaves_bits: ClassVar[bool] = True
    options: BinarizeOptions

    def check(self, task: Task, device: str) -> None:
        """Raise TrainingError where the recipe asks for what task or device do not allow."""
        check_recipe(task, self.options.recipe, device)

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the network of bits.

        Raises StageError where no layer can be binarised; TrainingError where training diverges.
        """
        options = self.options
        check_floats(network, self.name)
        begun = network.fresh(context.seed) if options.start == "scratch" else network.copy()
        parts = checked(roles(begun.module, task.input_shape))
        edit = signing_edit(begun.module, parts, task.input_shape, options.shortcuts)
        begun = begun.edited(edit.apply(begun.module), edit)
        names = names_after(edit, parts.chosen)
        with seeded(context.seed):
            images = task.train.inputs[:CALIBRATED_IMAGES]
            shifts = first_shifts(begun.module, names, images, options.thresholds == "all")
            how = Binarisation(options.estimator, options.noise)
            latent = with_latent_layers(begun.module, shifts, how)
        history = self._train(latent, how, network.module, task, context)
        result = packed(begun, latent)
        metrics = training_metrics(history) | weight_bits(result.module)
        metrics["binary_layers"] = float(len(names))
        metrics["float_layers"] = float(len(parts.left))
        metrics["threshold_layers"] = float(sum(shift is not None for shift in shifts.values()))
        instead, missing = float_latencies(network.module, task)
        notes = tuple(f"not binarised: {name}: {why}" for name, why in parts.left.items())
        return StageResult(
            result, metrics | instead, notes=(*notes, *missing), curve=history.curve()
        )

    def _train(
        self,
        latent: nn.Module,
        how: Binarisation,
        teacher: nn.Module,
        task: Task,
        context: StageContext,
    ) -> History:
        options, objective = self.options, None
        if options.teacher is not None:
            loss = training_loss(task, options.recipe)
            objective = Distillation.of(teacher, loss, options.teacher, context.device)
        return train(
            latent,
            task,
            options.recipe,
            context.seed,
            device=context.device,
            checkpoint=context.checkpoint,
            progress=context.progress,
            objective=objective,
            on_step=how.clock.at,
            tag=options.model_dump_json(),
        )


def float_latencies(module: nn.Module, task: Task) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return what the float network takes in ONNX Runtime, in 32 and 8 bits, or why that is open.

    The metrics are ``float_RUNTIME_ms``, milliseconds of one image on one thread.
    """
    images = task.train.inputs[:CALIBRATED_IMAGES].numpy()
    try:
        found = alternatives(copy.deepcopy(module).cpu(), images)
    except (BuildError, MissingExtraError) as error:
        return {}, (f"float network not timed beside it: {error}",)
    return {f"float_{name.replace('-', '_')}_ms": each for name, each in found.items()}, ()


def checked(parts: Roles) -> Roles:
    """Return the roles; raise StageError where no layer is to be binarised."""
    if not parts.chosen:
        reasons = "; ".join(f"{name}: {why}" for name, why in parts.left.items())
        raise StageError(f"binarize found no layer that can be binarised: {reasons or 'none'}")
    return parts
