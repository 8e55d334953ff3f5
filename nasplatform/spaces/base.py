"""The contract of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial
from pydantic import BaseModel
from torch import nn

from nasplatform.complaints import shortened
from nasplatform.errors import ArchitectureError, ConfigError, PlaceError
from nasplatform.plugins import make_options
from nasplatform.spaces.families import Family
from nasplatform.spaces.forms import Readers, read_form
from nasplatform.spaces.graph import GraphBatch

_EXAMPLE_OF_TEXT = 60  # characters of what is no text, in a message
Index = slice | NDArray[np.integer] | NDArray[np.bool_]


class Architecture(Protocol):
    """A small frozen, hashable value; equal to every architecture that builds the same graph."""

    @property
    def hash(self) -> str:
        """Canonical identity: isomorphic architectures share it."""
        ...


A = TypeVar("A", bound=Architecture)
T = TypeVar("T")


class Population(Sequence[A], ABC):
    """Many architectures of one space as one integer array.

    ``codes`` has shape (B, W) uint64 and holds one packed architecture per row, as labelled; W is
    ``words``. A population reads like a sequence of architectures and costs 8 W bytes for each.
    A subclass says how a row becomes an architecture (``_unpack``), and what its keys and hashes
    are; keys and hashes are best cached properties.
    """

    words: ClassVar[int] = 1

    def __init__(self, codes: NDArray[np.uint64]) -> None:
        """Take codes (B, W), or (B,) where W is 1; raise ArchitectureError for another shape."""
        codes = np.asarray(codes)
        whole = codes.dtype.kind == "u" or (codes.dtype.kind == "i" and not (codes < 0).any())
        if codes.size and not whole:
            raise ArchitectureError(f"codes are {codes.dtype}, expected whole numbers from 0")
        codes = codes.astype(np.uint64, copy=False)
        if codes.ndim == 1 and (self.words == 1 or not len(codes)):
            codes = codes.reshape(-1, self.words)
        if codes.ndim != 2 or codes.shape[1] != self.words:
            raise ArchitectureError(
                f"codes have shape {codes.shape}, expected (B, {self.words}): an architecture is "
                f"{self.words} word(s) of 64 bits"
            )
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} architectures>"

    @overload
    def __getitem__(self, index: int) -> A: ...

    @overload
    def __getitem__(self, index: Index) -> Self: ...

    def __getitem__(self, index: int | Index) -> A | Self:
        """Return one architecture for an integer, a population for anything else.

        Raises PlaceError, an IndexError too, for places that there are not.
        """
        single = isinstance(index, int | np.integer) and not isinstance(index, bool)
        try:
            found = self.codes[index]
        except IndexError:
            given = f"{index:,}" if single else shortened(index)
            raise PlaceError(
                f"no place {given} in a population of {len(self):,}, counted from 0: expected "
                f"a whole number, a slice, whole numbers or a mask"
            ) from None
        return self._unpack(found) if single else type(self)(found)

    @property
    def labels(self) -> NDArray[Any]:
        """(B,) one sortable value for each architecture as labelled: its word, or a record of W."""
        if self.words == 1:
            return self.codes[:, 0]
        record = np.dtype([(f"word{place}", np.uint64) for place in range(self.words)])
        return np.ascontiguousarray(self.codes).view(record)[:, 0]

    @abstractmethod
    def _unpack(self, code: NDArray[np.uint64]) -> A:
        """Return the architecture of one code (W,)."""

    @property
    @abstractmethod
    def keys(self) -> NDArray[np.uint64]:
        """(B,) isomorphism keys, equal exactly for equal architectures; cheap, in bulk."""

    @property
    @abstractmethod
    def hashes(self) -> list[str]:
        """The canonical hash of each architecture, in order."""

    def unique(self) -> Self:
        """Keep the first of each isomorphism class, in order."""
        _, first = np.unique(self.keys, return_index=True)
        return self[np.sort(first)]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put populations of one space one behind the other."""
        return cls(np.concatenate([part.codes for part in parts]))


class Space(ABC, Generic[A]):
    """What can be built, and how it is written, varied, counted and constructed.

    Life cycle: a space is made once with its options (the skeleton around the cell), is
    immutable, and may be shared between threads. Architectures come from ``parse``, ``sample``,
    ``mutate``, ``neighbours`` or ``enumerate``; ``graphs`` turns any number of them into the
    arrays that encodings and predictors see; ``build`` makes the one that was chosen.

    Decisions may be conditional: ``to_params`` leaves out those that an architecture has not, and
    ``active`` says which of them that is.

    prior: what ``sample`` draws from, in a few words, e.g. ``uniform over the unique cells``.
    forms: how other tools write architectures, name -> function of the value (see ``forms``); the
           text ``NAME:VALUE`` is read wherever a text form is.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    prior: ClassVar[str]
    forms: ClassVar[Readers] = {}

    def __init__(self, options: BaseModel) -> None:
        """Take the options of the space, an instance of its ``Options``."""
        self.options = options

    def __repr__(self) -> str:
        chosen = self.options.model_dump(mode="json", exclude_defaults=True)
        return f"<space {self.name}{''.join(f', {key} {value}' for key, value in chosen.items())}>"

    @abstractmethod
    def parse(self, text: str) -> A:
        """Read the text form. Raises ArchitectureError that says what is wrong and where."""

    def parse_many(
        self, texts: Iterable[str]
    ) -> tuple[Population[A], dict[int, ArchitectureError]]:
        """Read many text forms, taken by position; a bad one stops nobody.

        Returns the population of the good ones, in order, and index -> error of the others, among
        them whatever is no text.
        """
        read, errors = [], {}
        for index, text in enumerate(in_order(texts)):
            try:
                read.append(self.parse(as_text(text)))
            except ArchitectureError as error:
                errors[index] = error
        return self.population(read), errors

    def read(self, value: Any, form: str | None = None) -> A:
        """Read a text form, or what another tool writes: a text, list, array or mapping.

        form: one of ``forms``; None for the text forms of the space.
        Raises ArchitectureError that says what is wrong.
        """
        if form is None:
            return self.parse(as_text(value))
        found: A = read_form(form, value, self.forms)
        return found

    def caution(self, texts: Sequence[str]) -> str | None:
        """Return how texts are read that other tools mean otherwise; None where none is such."""
        return None

    @abstractmethod
    def format(self, architecture: A) -> str:
        """Return the compact text form that ``parse`` reads back."""

    @abstractmethod
    def population(self, architectures: Sequence[A]) -> Population[A]:
        """Pack architectures; a population is returned as it is."""

    @abstractmethod
    def from_codes(self, codes: NDArray[np.uint64]) -> Population[A]:
        """Wrap packed codes, shape (B, W), as they stand in a table."""

    @abstractmethod
    def enumerate(self) -> Population[A] | None:
        """Return every unique architecture, or None where the space cannot be enumerated."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Population[A]:
        """Draw ``n`` architectures, with replacement, from the ``prior`` of the space."""

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
        """Return (B,): which codes (B, W), of whatever origin, are packed architectures."""
        return np.array([self._contains_code(code) for code in codes], bool)

    def _contains_code(self, code: NDArray[np.uint64]) -> bool:
        try:
            alone = self.from_codes(code[None])
            again = self.population([self.parse(self.format(alone[0]))])
        except (ArchitectureError, ValueError, IndexError, KeyError, OverflowError):
            return False
        return bool((again.codes[0] == code).all())

    @abstractmethod
    def build(self, architecture: A) -> nn.Module:
        """Make the trainable network: (batch, channels, height, width) -> (batch, classes)."""

    def blocks(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the layers of a network of ``build`` that all signals pass, one after the other.

        Each returns maps (B, C, h, w) or tokens (B, T, C). None where the space does not say.
        """
        return ()

    @abstractmethod
    def distributions(self) -> dict[str, BaseDistribution]:
        """One Optuna distribution per decision, for samplers that know nothing of graphs."""

    @abstractmethod
    def to_params(self, architecture: A) -> dict[str, Any]:
        """Express an architecture in the parameters of ``distributions``, the active ones."""

    @abstractmethod
    def from_params(self, params: Mapping[str, Any]) -> A:
        """Read parameters back; what is not active is ignored.

        An invalid combination is repaired, always in the same way.
        """

    def active(self, params: Mapping[str, Any]) -> frozenset[str]:
        """Return the names of the decisions that these parameters leave open or have made.

        A decision may depend on those that stand before it in ``distributions`` only.
        """
        return frozenset(self.distributions())

    def suggest(self, trial: BaseTrial) -> A:
        """Let an Optuna trial of anyone's study make the decisions; return the architecture."""
        chosen: dict[str, Any] = {}
        for name, distribution in self.distributions().items():
            if name in self.active(chosen):
                chosen[name] = _suggested(trial, name, distribution)
        return self.from_params(chosen)

    def families(self) -> Sequence[Family[A]]:
        """Return published networks that are points of the space, if any is known."""
        return ()

    def with_input(self, input_shape: tuple[int, int, int], classes: int) -> Self:
        """Return this space with the skeleton's input (channels, height, width) and classes set.

        Raises ConfigError where the skeleton cannot take such an input.
        """
        wanted = {"input_shape": input_shape, "classes": classes}
        lacking = [key for key in wanted if key not in type(self.options).model_fields]
        if lacking:
            raise ConfigError(
                f"space {self.name!r} cannot be told what the images are: its Options have no "
                f"{' and no '.join(lacking)}"
            )
        values = self.options.model_dump() | wanted
        return type(self)(make_options(type(self.options), values, f"space {self.name!r}"))

    def describe(self) -> dict[str, Any]:
        """Return the name and the options, as a search file and a card write them."""
        return {"name": self.name, **self.options.model_dump(mode="json")}


def in_order(values: Iterable[T]) -> list[T]:
    """Return what a sequence, array, series or generator yields, by position.

    Raises ArchitectureError for a single text, whose letters nobody means, and for what has no
    order or no single column.
    """
    if isinstance(values, (str, bytes)):
        raise ArchitectureError(
            f"expected several architectures, found the one text {repr(values)[:60]}"
        )
    if isinstance(values, (Set, Mapping)) or hasattr(values, "columns"):
        raise ArchitectureError(
            f"expected architectures in order, as a list or a column, found {type(values).__name__}"
        )
    try:
        return list(values)
    except TypeError:
        raise ArchitectureError(
            f"expected several architectures, found {type(values).__name__}"
        ) from None


def architectures_of(values: Iterable[T], kind: type[T]) -> list[T]:
    """Return architectures by position; raise ArchitectureError for what is none of the kind."""
    found = in_order(values)
    for place, one in enumerate(found):
        if not isinstance(one, kind):
            advice = "; texts become architectures by parse" if isinstance(one, str) else ""
            raise ArchitectureError(
                f"architectures[{place}] is {type(one).__name__} {repr(one)[:60]}, "
                f"expected {kind.__name__}{advice}"
            )
    return found


def architecture_of(value: object, kind: type[T]) -> T:
    """Return one architecture; raise ArchitectureError for what is none of the kind."""
    if not isinstance(value, kind):
        advice = "; a text becomes one by parse" if isinstance(value, str) else ""
        home = kind.__module__.removeprefix("nasplatform.spaces.").partition(".")[0]
        raise ArchitectureError(
            f"expected {home}'s {kind.__name__}, found "
            f"{type(value).__name__} {repr(value)[:60]}{advice}"
        )
    return value


def required(params: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ArchitectureError where a decision is missing."""
    for name in names:
        if name not in params:
            raise ArchitectureError(f"decision {name!r} is missing")


def check_draw(n: object, rng: object) -> None:
    """Raise ArchitectureError unless ``n`` is a number of architectures and ``rng`` a generator."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise ArchitectureError(f"n: expected a whole number of at least 0, got {n!r:.40}")
    if not isinstance(rng, np.random.Generator):
        raise ArchitectureError(
            f"rng: expected a generator of numpy, as numpy.random.default_rng(0) makes one, got "
            f"{type(rng).__name__}"
        )


def as_text(value: object) -> str:
    """Return a text as it is; raise ArchitectureError for anything else, e.g. a blank cell."""
    if not isinstance(value, str):
        raise ArchitectureError(
            f"expected the text of an architecture, found {type(value).__name__} "
            f"{repr(value)[:_EXAMPLE_OF_TEXT]}"
        )
    return value


def _suggested(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution(low=least, high=most, step=stride, log=log):
            return trial.suggest_int(name, least, most, step=stride, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
    raise TypeError(f"decision {name!r} has the unknown distribution {distribution!r}")
