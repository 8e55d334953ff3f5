"""Everything that a training changes: weights, optimiser, loss scale, average, objective."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from nasplatform.errors import TrainingError
from nasplatform.training import distributed
from nasplatform.training.layout import laid_out
from nasplatform.training.objective import Batch, Metrics, Objective
from nasplatform.training.optimizers import EMA, MeanOfLast
from nasplatform.training.recipe import Recipe

MODEL, OPTIMIZER, AVERAGE, OBJECTIVE = "model.", "optimizer.", "average.", "objective."


@dataclass(frozen=True)
class TrainingState:
    """A training between two steps; ``tensors`` and ``numbers`` hold all of it."""

    module: nn.Module
    shared: nn.Module  # the module as the objective calls it (see ``distributed.shared``)
    objective: Objective
    recipe: Recipe
    device: str
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None

    @classmethod
    def start(
        cls, module: nn.Module, objective: Objective, recipe: Recipe, device: str
    ) -> TrainingState:
        """Put a module, and an objective that is one, on the device, and begin."""
        place(module, device, torch.channels_last)
        parameters = list(module.parameters())
        if isinstance(objective, nn.Module):
            parameters += objective.to(device).parameters()
        optimizer = recipe.optimizer.make(parameters, recipe.learning_rate, recipe.weight_decay)
        scaler = torch.amp.GradScaler("cuda", enabled=recipe.precision == "float16")
        average = _average(module, recipe)
        shared = distributed.shared(module)
        return cls(module, shared, objective, recipe, device, optimizer, scaler, average)

    def step(self, batch: Batch, rate: float) -> tuple[Tensor, Metrics]:
        """Take one step at a learning rate; return the loss and the metrics before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        part = distributed.Part.of(batch)
        with self._autocast():
            found = self.objective(self.shared, part.batch)
        loss, metrics = found if isinstance(found, tuple) else (found, {})
        torch.autograd.backward(self.scaler.scale(loss * part.weight))
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self._parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and isinstance(self.recipe.averaging, EMA):
            self.average.update_parameters(self.module)
        means = {name: part.whole(value.detach()) for name, value in metrics.items()}
        return part.whole(loss.detach()), means

    def end_epoch(self, epoch: int, inputs: Iterable[Tensor]) -> None:
        """Average the weights after an epoch where the recipe says so.

        inputs: batches of the training split, for the running statistics of the average.
        """
        how = self.recipe.averaging
        if self.average is None or not isinstance(how, MeanOfLast):
            return
        if how.counts(epoch, self.recipe.epochs):
            self.average.update_parameters(self.module)
            update_bn(inputs, self.average)

    @property
    def judged(self) -> nn.Module:
        """The module with the weights that would be handed on now: the average, if there is one."""
        if self.average is None or not int(self.average.n_averaged):
            return self.module
        return self.average.module

    def finish(self) -> None:
        """Give the module the weights that are handed on, on the CPU, in evaluation mode."""
        if self.judged is not self.module:
            self.module.load_state_dict(self.judged.state_dict())
        place(self.module, "cpu", torch.contiguous_format).eval()

    def check_finite(self, logits: Tensor, step: int, steps: int) -> None:
        """Raise TrainingError where a weight, a buffer or a logit left the finite numbers.

        logits: what the judged module says after step 1..steps; minus infinity may be meant.
        """
        tensors = self.judged.state_dict() | {"a logit": logits.clamp_min(0)}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise diverged(f"{name} is not finite after step {step} of {steps}", self.recipe)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        found = {f"{MODEL}{name}": t for name, t in self.module.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"{OPTIMIZER}{index}.{name}"] = value
        if self.average is not None:
            found |= {f"{AVERAGE}{name}": t for name, t in self.average.state_dict().items()}
        for name, value in self._objective_state().items():
            if isinstance(value, Tensor):
                found[f"{OBJECTIVE}{name}"] = value
        return found

    def numbers(self) -> dict[str, Any]:
        """Return what is no tensor, as JSON holds it."""
        objective = self._objective_state().items()
        return {
            "scaler": self.scaler.state_dict(),
            "objective": {name: v for name, v in objective if not isinstance(v, Tensor)},
        }

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Take back ``tensors`` and ``numbers``."""
        self.module.load_state_dict(_part(tensors, MODEL))
        parameters = self._parameters()
        for name, value in _part(tensors, OPTIMIZER).items():
            index, _, entry = name.partition(".")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:  # in the same memory format as the parameter
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            self.optimizer.state[parameter][entry] = value
        if self.average is not None:
            self.average.load_state_dict(_part(tensors, AVERAGE))
        self.scaler.load_state_dict(numbers["scaler"])
        state = _part(tensors, OBJECTIVE) | numbers["objective"]
        if state:
            cast(Any, self.objective).load_state_dict(state)

    def _objective_state(self) -> dict[str, Any]:
        give = getattr(self.objective, "state_dict", None)
        return dict(give()) if give is not None else {}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return nullcontext()
        dtype = torch.bfloat16 if self.recipe.precision == "bfloat16" else torch.float16
        return torch.autocast(torch.device(self.device).type, dtype)


def place(module: nn.Module, device: str, layout: torch.memory_format) -> nn.Module:
    """Move a module to a device and its convolutions' weights to a memory format."""
    return laid_out(module.to(device), layout)


def diverged(what: str, recipe: Recipe) -> TrainingError:
    """Return the error of a training that left the finite numbers."""
    return TrainingError(
        f"{what}: learning_rate {recipe.learning_rate} is too high for this network"
    )


def check_loss(total: Tensor, step: int, steps: int, recipe: Recipe) -> None:
    """Raise TrainingError where the sum of the losses up to step 1..steps is not finite."""
    value = float(total)
    if not math.isfinite(value):
        raise diverged(f"the training loss is {value} at step {step} of {steps}", recipe)


def _average(module: nn.Module, recipe: Recipe) -> AveragedModel | None:
    if recipe.averaging is None:
        return None
    if isinstance(recipe.averaging, MeanOfLast):
        return AveragedModel(module)
    decay = recipe.averaging.decay
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch has no types there
    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
