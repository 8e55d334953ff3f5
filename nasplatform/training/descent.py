"""AdamW for the small networks of predictors, which train in memory and are never resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

B = TypeVar("B")


@dataclass(frozen=True)
class Descent:
    """How a small network is trained.

    epochs:  passes over the data.
    rate:    learning rate; the peak where ``steps`` is given.
    decay:   decoupled weight decay.
    steps:   batches of an epoch, for the one-cycle schedule (Smith and Topin 2018); None keeps
             the rate as it is.
    """

    epochs: int
    rate: float
    decay: float
    steps: int | None = None

    def train(
        self,
        network: nn.Module,
        batches: Callable[[int], Iterable[B]],
        loss: Callable[[B], Tensor],
        after_epoch: Callable[[int], bool] = lambda epoch: False,
    ) -> None:
        """Train a network in place, and leave it in training mode.

        batches:     the batches of an epoch 0..epochs-1.
        loss:        scalar of a batch.
        after_epoch: hears the epochs 0..epochs-1; True ends the training.
        """
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.rate, weight_decay=self.decay)
        schedule = self.steps and torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.rate, total_steps=self.epochs * self.steps
        )
        network.train()
        for epoch in range(self.epochs):
            for batch in batches(epoch):
                optimizer.zero_grad()
                torch.autograd.backward(loss(batch))
                optimizer.step()
                if schedule:
                    schedule.step()
            if after_epoch(epoch):
                break
