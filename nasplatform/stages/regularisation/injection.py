"""Noise on feature maps in the forward passes of training steps, and in no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasplatform.stages.dataflow import FeaturePoint
from nasplatform.training.objective import Batch, Metrics, Objective
from nasplatform.training.seeding import derive_seed

Noise = Callable[[Tensor, float, torch.Generator], Tensor]
"""(map (B, c, h, w), probability, generator) -> the map with noise."""


def linear_schedule(step: int, steps: int) -> float:
    """Return the share of the probability at step 0..steps-1: from 0 to 1 in equal steps."""
    return step / (steps - 1) if steps > 1 else 1.0


@dataclass(frozen=True)
class Place:
    """A feature map, what is done to it, and how often at the end of the schedule."""

    point: FeaturePoint
    noise: Noise
    prob: float


class Injection:
    """An objective that puts noise on feature maps while it computes the loss of another one.

    It has a switch of its own: modules that stay in evaluation mode (frozen normalisation) make
    no difference, and networks are judged without noise. Draws follow from seed, place and step.
    """

    def __init__(
        self, objective: Objective, places: Sequence[Place], seed: int, *, linear: bool
    ) -> None:
        """Take the loss, the places, and whether probabilities grow linearly from 0."""
        self.objective, self.places, self.seed, self.linear = objective, places, seed, linear
        self.done = [0] * len(places)
        self.step, self.steps = 0, 1
        self._in_step = self._acting = False
        self._times: Counter[nn.Module] = Counter()

    def on_step(self, step: int, steps: int) -> None:
        """Move the schedule on to step 0..steps-1."""
        self.step, self.steps = step, steps

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """Return the loss with noise."""
        self._in_step = True
        try:
            return self.objective(module, batch)
        finally:
            self._in_step = False

    def state_dict(self) -> dict[str, Any]:
        """Return how often each place got noise, so that a resumed training counts on."""
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back ``state_dict``."""
        self.done = list(state["done"])

    @contextmanager
    def installed(self, module: nn.Module) -> Iterator[None]:
        """Hook the noise to the modules of a network within the block."""
        # functions, since a copy of the network would get its own copy of a bound method's object
        handles = [module.register_forward_pre_hook(lambda root, given: self._begin())]
        for child in {place.point.module: None for place in self.places}:
            handles.append(child.register_forward_hook(self._hook(child)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self) -> None:
        """Act until the next forward pass: layers may be computed again on the way back."""
        self._acting = self._in_step
        self._times.clear()

    def _hook(self, child: nn.Module) -> Callable[..., Any]:
        own = [(i, place) for i, place in enumerate(self.places) if place.point.module is child]

        def hook(module: nn.Module, given: Any, made: Any) -> Any:
            time = self._times[child]
            self._times[child] += 1
            for index, place in own if self._acting else ():
                if place.point.call in (None, time):
                    made = self._with_noise(index, place, made)
            return made

        return hook

    def _with_noise(self, index: int, place: Place, made: Any) -> Any:
        if isinstance(made, tuple):  # attention returns its weights beside
            return (self._with_noise(index, place, made[0]), *made[1:])
        grown = linear_schedule(self.step, self.steps) if self.linear else 1.0
        if not grown:
            return made
        self.done[index] += 1
        rng = torch.Generator(made.device)
        rng.manual_seed(derive_seed(self.seed, index, self.step))
        features = place.point.layout.read(made)
        return place.point.layout.write(made, place.noise(features, grown * place.prob, rng))
