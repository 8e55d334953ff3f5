"""How the small networks are built and trained, and the learning rate of every step."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCH = 64
"""Images per batch: fixed by the kernel's memory layout."""
_MAX_CLASSES = 16


@dataclass(frozen=True)
class Recipe:
    """How a network is built around a cell and trained."""

    stem_channels: int = 8
    stacks: int = 3
    modules_per_stack: int = 1
    classes: int = 10
    epochs: int = 10
    batch_size: int = BATCH
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    """Share of all steps over which the learning rate rises linearly; cosine to 0 afterwards."""
    evaluate_at: tuple[int, ...] = ()
    """Epochs (1-based, rising) after which both evaluation splits are classified; () = last."""

    def __post_init__(self) -> None:
        """Refuse what the kernel cannot do."""
        if self.batch_size != BATCH:
            raise ValueError(f"batch_size is {self.batch_size}; the kernel's is fixed at {BATCH}")
        if min(self.stem_channels, self.stacks, self.modules_per_stack, self.epochs) < 1:
            raise ValueError("stem_channels, stacks, modules_per_stack and epochs must be >= 1")
        if not 1 <= self.classes <= _MAX_CLASSES:
            raise ValueError(f"classes is {self.classes}, not in 1..{_MAX_CLASSES}")
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"warmup is {self.warmup}, not in [0, 1)")
        rising = sorted(set(self.evaluate_at)) == list(self.evaluate_at)
        if not rising or not all(1 <= e <= self.epochs for e in self.evaluate_at):
            raise ValueError(f"evaluate_at is {self.evaluate_at}: not rising within 1..epochs")

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Epochs after which both evaluation splits are classified."""
        return self.evaluate_at or (self.epochs,)


def learning_rates(recipe: Recipe, total: int) -> NDArray[np.float32]:
    """Learning rate of every one of total steps, (total,)."""
    warm = total * recipe.warmup
    shares = [
        (s + 1) / warm if s < warm else 0.5 * (1 + math.cos(math.pi * (s - warm) / (total - warm)))
        for s in range(total)
    ]
    return (np.array(shares, dtype=np.float64) * recipe.learning_rate).astype(np.float32)
