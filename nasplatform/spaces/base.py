"""The contract of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from pydantic import BaseModel
from torch import nn

from nasplatform.errors import ArchitectureError
from nasplatform.plugins import make_options
from nasplatform.spaces.graph import GraphBatch

Index = slice | NDArray[np.integer] | NDArray[np.bool_]


class Architecture(Protocol):
    """A small frozen, hashable value; equal to every architecture that builds the same graph."""

    @property
    def hash(self) -> str:
        """Canonical identity: isomorphic architectures share it."""
        ...


A = TypeVar("A", bound=Architecture)


class Population(Sequence[A], ABC):
    """Many architectures of one space as one integer array.

    ``codes`` has shape (B,) uint64 and holds one packed architecture per entry, as labelled.
    A population reads like a sequence of architectures and costs 8 bytes for each.
    """

    codes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> A: ...

    @overload
    def __getitem__(self, index: Index) -> Population[A]: ...

    @abstractmethod
    def __getitem__(self, index: int | Index) -> A | Population[A]:
        """Return one architecture for an integer, a population for anything else."""

    @property
    @abstractmethod
    def keys(self) -> NDArray[np.uint64]:
        """(B,) isomorphism keys, equal exactly for equal architectures; cheap, in bulk."""

    @property
    @abstractmethod
    def hashes(self) -> list[str]:
        """The canonical hash of each architecture, in order."""


class Space(ABC, Generic[A]):
    """What can be built, and how it is written, varied, counted and constructed.

    Life cycle: a space is made once with its options (the skeleton around the cell), is
    immutable, and may be shared between threads. Architectures come from ``parse``, ``sample``,
    ``mutate``, ``neighbours`` or ``enumerate``; ``graphs`` turns any number of them into the
    arrays that encodings and predictors see; ``build`` makes the one that was chosen.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]

    def __init__(self, options: Any) -> None:
        """Take the options of the space, an instance of its ``Options``."""
        self.options = options

    @abstractmethod
    def parse(self, text: str) -> A:
        """Read the text form. Raises ArchitectureError that says what is wrong and where."""

    def parse_many(
        self, texts: Sequence[str]
    ) -> tuple[Population[A], dict[int, ArchitectureError]]:
        """Read many text forms; a bad one stops nobody.

        Returns the population of the good ones, in order, and index -> error of the others.
        """
        read, errors = [], {}
        for index, text in enumerate(texts):
            try:
                read.append(self.parse(text))
            except ArchitectureError as error:
                errors[index] = error
        return self.population(read), errors

    @abstractmethod
    def format(self, architecture: A) -> str:
        """Return the compact text form that ``parse`` reads back."""

    @abstractmethod
    def population(self, architectures: Sequence[A]) -> Population[A]:
        """Pack architectures; a population is returned as it is."""

    @abstractmethod
    def from_codes(self, codes: NDArray[np.uint64]) -> Population[A]:
        """Wrap packed codes, shape (B,), as they stand in a table."""

    @abstractmethod
    def enumerate(self) -> Population[A] | None:
        """Return every unique architecture, or None where the space cannot be enumerated."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Population[A]:
        """Draw ``n`` architectures uniformly (over the unique ones where enumerable)."""

    @abstractmethod
    def neighbours(self, architectures: Sequence[A]) -> Population[A]:
        """Return the unique architectures one edit away from any of those given."""

    def mutate(self, architecture: A, rng: np.random.Generator) -> A:
        """Return a random architecture one edit away."""
        around = self.neighbours([architecture])
        return around[int(rng.integers(len(around)))]

    @abstractmethod
    def graphs(self, architectures: Sequence[A]) -> GraphBatch:
        """Turn architectures into arrays, without a Python loop over a population."""

    def from_graphs(self, graphs: GraphBatch) -> Population[A]:
        """Return the architectures of which ``graphs`` made these arrays.

        Raises ArchitectureError for graphs of another space, or where a space knows no way back.
        """
        raise ArchitectureError(f"space {self.name!r} cannot turn graphs back into architectures")

    def contains_codes(self, codes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return (B,): which codes, of whatever origin, are packed architectures of the space."""
        return np.array([self._contains_code(code) for code in codes], bool)

    def _contains_code(self, code: np.uint64) -> bool:
        try:
            alone = self.from_codes(np.array([code], np.uint64))
            again = self.population([self.parse(self.format(alone[0]))])
        except (ArchitectureError, ValueError, IndexError, KeyError, OverflowError):
            return False
        return bool(again.codes[0] == code)

    @abstractmethod
    def build(self, architecture: A) -> nn.Module:
        """Make the trainable network: (batch, channels, height, width) -> (batch, classes)."""

    @abstractmethod
    def distributions(self) -> dict[str, BaseDistribution]:
        """One Optuna distribution per decision, for samplers that know nothing of graphs."""

    @abstractmethod
    def to_params(self, architecture: A) -> dict[str, Any]:
        """Express an architecture in the parameters of ``distributions``."""

    @abstractmethod
    def from_params(self, params: Mapping[str, Any]) -> A:
        """Read parameters back; an invalid combination is repaired, always in the same way."""

    def with_input(self, input_shape: tuple[int, int, int], classes: int) -> Self:
        """Return this space with the skeleton's input (channels, height, width) and classes set.

        Raises ConfigError where the skeleton cannot take such an input.
        """
        wanted = {"input_shape": input_shape, "classes": classes}
        known = {k: v for k, v in wanted.items() if k in type(self.options).model_fields}
        values = self.options.model_dump() | known
        return type(self)(make_options(type(self.options), values, f"space {self.name!r}"))

    def describe(self) -> dict[str, Any]:
        """Return the name and the options, as a search file and a card write them."""
        return {"name": self.name, **self.options.model_dump(mode="json")}
