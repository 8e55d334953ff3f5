"""The set-ups of the embedded tables: which architectures, trained how, on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from nasplatform.benchmarks import cellnet
from nasplatform.benchmarks.embedded.trainers import CellKernel, Trainer, TrainingLoop
from nasplatform.errors import DataError, did_you_mean
from nasplatform.spaces import Population, Space, get_space
from nasplatform.spaces.nasbench101 import Cells
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells
from nasplatform.training.optimizers import AdamW
from nasplatform.training.recipe import Recipe


class Group(Protocol):
    """Which architectures are trained with how many seeds; a dataclass of plain values."""

    @property
    def seeds(self) -> int:
        """Repetitions: other initial weights and batch order, same data."""
        ...

    def draw(self, space: Space[Any]) -> Population[Any]:
        """Return the architectures, the same at every call."""
        ...


@dataclass(frozen=True)
class CellGroup:
    """NAS-Bench-101 cells by size.

    vertices: smallest and largest number of vertices.
    sample:   how many of them, drawn at random without replacement; None for all.
    """

    vertices: tuple[int, int]
    seeds: int
    sample: int | None = None

    def draw(self, space: Space[Any]) -> Cells:
        """Return the cells of the group, in the order of the enumeration."""
        low, high = self.vertices
        every = enumerate_cells(high)
        chosen = every[len(enumerate_cells(low - 1)) if low > 2 else 0 :]
        if self.sample is None:
            return chosen
        rng = np.random.Generator(np.random.PCG64(0))
        return chosen[np.sort(rng.choice(len(chosen), self.sample, replace=False))]


@dataclass(frozen=True)
class SampleGroup:
    """Different architectures of what the space samples, in the order in which they are drawn.

    sample: how many of them.
    first:  how many of those drawn stand before them.
    of:     how many are drawn in all; by default ``first + sample``.
    """

    sample: int
    seeds: int
    first: int = 0
    of: int | None = None

    def draw(self, space: Space[Any]) -> Population[Any]:
        """Return the architectures in the order in which they are drawn."""
        rng = np.random.Generator(np.random.PCG64(0))
        last = self.first + self.sample
        wanted = self.of or last
        drawn = space.sample(2 * wanted, rng).unique()
        if len(drawn) < wanted:
            raise DataError(f"space {space.name!r} has no {wanted} architectures to sample")
        return drawn[self.first : last]


@dataclass(frozen=True)
class Setup:
    """Everything that decides what a build measures.

    options: of the data set.
    space:   name and options of the space, as a search file writes them.
    """

    name: str
    dataset: str
    options: Mapping[str, Any]
    space: Mapping[str, Any]
    trainer: Trainer
    groups: tuple[Group, ...]
    licence: str

    def make_space(self) -> Space[Any]:
        """Return the space."""
        return get_space(**self.space)

    def description(self) -> dict[str, Any]:
        """Return the set-up as it stands on the card, plain JSON."""
        return {
            "dataset": {"name": self.dataset, **self.options},
            "recipe": self.trainer.description(),
            # all are dataclasses, which a protocol cannot say
            "groups": [asdict(group) for group in self.groups],  # type: ignore[call-overload]
        }


_DIGITS = {"noise": 1.0, "seed": 0}
_LICENCE_OF_DIGITS = "digits: UCI ML repository via scikit-learn (CC BY 4.0); table: Apache-2.0"
_CELLS = {
    "name": "nasbench101",
    "stem_channels": 8,
    "stacks": 3,
    "modules_per_stack": 1,
    "classes": 10,
}
SETUPS = {
    setup.name: setup
    for setup in (
        Setup(
            name="cells-digits",
            dataset="digits",
            options=_DIGITS,
            space={**_CELLS, "input_shape": (1, 8, 8)},
            trainer=CellKernel(cellnet.Recipe(epochs=10, evaluate_at=(2, 4, 7, 10))),
            groups=(CellGroup((2, 5), seeds=4), CellGroup((6, 7), seeds=4, sample=5000)),
            licence=_LICENCE_OF_DIGITS,
        ),
        Setup(
            name="cells-fashion",
            dataset="fashion-mnist",
            options={"pool": 4, "train_size": 4000, "valid_size": 5000, "test_size": 5000},
            space={**_CELLS, "input_shape": (1, 7, 7)},
            trainer=CellKernel(cellnet.Recipe(epochs=4, evaluate_at=(1, 2, 4))),
            groups=(CellGroup((2, 5), seeds=4),),
            licence="Fashion-MNIST: Zalando (MIT); table: Apache-2.0",
        ),
        Setup(
            name="chains-digits",
            dataset="digits",
            options=_DIGITS,
            space={
                "name": "macro-chain",
                "input_shape": (1, 8, 8),
                "classes": 10,
                "stem_channels": 8,
                "widths": ((4, 8, 12), (4, 12, 20), (4, 16, 32)),
                "strides": ((1, 2), (1, 2), (1, 2)),
                "max_depth": 3,
                "kernels": (3, 5),
                "expansions": (1, 2, 4),
            },
            trainer=TrainingLoop(Recipe(epochs=4), evaluate_at=(1, 2, 3, 4)),
            groups=(SampleGroup(1000, seeds=2),),
            licence=_LICENCE_OF_DIGITS,
        ),
        Setup(
            name="vit-digits",
            dataset="digits",
            options={"noise": 0.5, "seed": 0},  # of few images a transformer learns less
            space={"name": "vit", "subspace": "digits", "input_shape": (1, 8, 8), "classes": 10},
            trainer=TrainingLoop(
                Recipe(epochs=4, optimizer=AdamW(), learning_rate=0.005, weight_decay=0.05),
                evaluate_at=(1, 2, 3, 4),
            ),
            groups=(
                SampleGroup(272, seeds=2, of=500),
                SampleGroup(228, seeds=1, first=272, of=500),
            ),
            licence=_LICENCE_OF_DIGITS,
        ),
    )
}


def get_setup(name: str) -> Setup:
    """Return a set-up by name; raise DataError for an unknown one."""
    if name not in SETUPS:
        raise DataError(f"no set-up is called {name!r}{did_you_mean(name, SETUPS)}")
    return SETUPS[name]
