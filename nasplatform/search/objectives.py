"""What a search is after: the score, further objectives, and limits that must be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import ConfigError, did_you_mean
from nasplatform.spaces.base import A, Population, Space

if TYPE_CHECKING:
    from nasplatform.config import SearchOptions
    from nasplatform.evaluators.base import Evaluator

Direction = Literal["maximize", "minimize"]
Array = NDArray[np.float64]
StaticAttributes = Callable[[Population[Any]], Mapping[str, NDArray[Any]]]
_TRIED = 20_000  # random architectures looked at before limits count as contradictory


@dataclass(frozen=True)
class Limit:
    """A bound that an architecture must keep, e.g. ``max_params: 1e6``.

    name:  what is bounded: ``params``, ``flops``, an attribute or a metric of the evaluator.
    bound: the value that may just be reached.
    upper: whether it bounds from above.
    """

    name: str
    bound: float
    upper: bool

    @classmethod
    def parse(cls, key: str, bound: float) -> Self:
        """Read ``max_NAME`` or ``min_NAME``; raise ConfigError for any other key."""
        side, _, name = key.partition("_")
        if side not in ("max", "min") or not name:
            raise ConfigError(f"constraints.{key}: expected max_NAME or min_NAME, e.g. max_params")
        return cls(name, float(bound), side == "max")

    def __str__(self) -> str:
        return f"{'max' if self.upper else 'min'}_{self.name}: {self.bound:g}"

    def violation(self, values: NDArray[Any] | float) -> Array:
        """Return by how much values break the limit, in units of the bound; <= 0 where kept."""
        beyond = np.asarray(values, np.float64) - self.bound
        scaled: Array = (beyond if self.upper else -beyond) / max(abs(self.bound), 1e-12)
        return scaled


@dataclass(frozen=True)
class OptimizationConfig(Generic[A]):
    """What a search is after beside the score, which is always maximised first.

    objectives: name -> direction of what else is searched.
    limits:     what an architecture must keep.
    static_attributes: (B,) by name, known of B architectures before any is measured.
    static_names: of these attributes.
    """

    objectives: Mapping[str, Direction]
    limits: tuple[Limit, ...]
    static_attributes: StaticAttributes
    static_names: frozenset[str]

    @classmethod
    def of(cls, options: SearchOptions, evaluator: Evaluator[A]) -> OptimizationConfig[A]:
        """Read objectives and limits of a search file; raise ConfigError for what cannot be had.

        That is an objective or a limit of something that the evaluator does not measure, and
        limits that no architecture keeps.
        """
        limits = tuple(Limit.parse(key, bound) for key, bound in options.constraints.items())
        names = frozenset(evaluator.attribute_names())
        measured = names | set(evaluator.metrics())
        asked = [("objectives", name) for name in options.objectives]
        asked += [("constraints", limit.name) for limit in limits]
        for section, name in asked:
            if section == "objectives" and name == evaluator.score_metric.removeprefix("-"):
                raise ConfigError(f"objectives: {name!r} is the score, which is searched anyway")
            if name not in measured:
                raise ConfigError(
                    f"{section}: evaluator {evaluator.name!r} has no {name!r}"
                    f"{did_you_mean(name, measured)}"
                )
        optimization = cls(dict(options.objectives), limits, evaluator.attributes, names)
        optimization.require_possible(evaluator.space, evaluator.candidates)
        return optimization

    @property
    def directions(self) -> list[Direction]:
        """The directions of an Optuna study with these objectives, the score's first."""
        return ["maximize", *self.objectives.values()]

    @property
    def used(self) -> set[str]:
        """Names of all that is an objective or limited."""
        return set(self.objectives) | {limit.name for limit in self.limits}

    def attributes(self, architectures: Population[A]) -> Mapping[str, NDArray[Any]]:
        """Return the known attributes (B,) that objectives or limits speak of."""
        if not self.used & self.static_names:
            return {}
        found = self.static_attributes(architectures)
        return {name: found[name] for name in self.used & self.static_names}

    def feasible_mask(self, architectures: Population[A]) -> NDArray[np.bool_]:
        """Return (B,) whether each keeps the limits, as far as that is known unmeasured.

        An architecture for which a known objective is not a number cannot be searched either.
        """
        keeps = np.ones(len(architectures), bool)
        found = self.attributes(architectures) if len(architectures) else {}
        for limit in self.limits:
            if limit.name in found:
                keeps &= limit.violation(found[limit.name]) <= 0
        for name in self.objectives:
            if name in found:
                keeps &= np.isfinite(np.asarray(found[name], np.float64))
        return keeps

    def values(self, score: float, metrics: Mapping[str, float]) -> list[float]:
        """Return the objective values of a measurement; NaN where a metric is missing."""
        return [score, *(float(metrics.get(name, np.nan)) for name in self.objectives)]

    def violation(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return how far a measurement breaks each limit; inf where the metric is missing."""
        found = {}
        for limit in self.limits:
            missing = np.inf if limit.upper else -np.inf
            found[str(limit)] = float(limit.violation(metrics.get(limit.name, missing)))
        return found

    def require_possible(self, space: Space[A], candidates: Population[A] | None) -> None:
        """Raise ConfigError where no architecture keeps the limits that are known unmeasured."""
        limits = [limit for limit in self.limits if limit.name in self.static_names]
        if not limits:
            return
        tried = candidates
        if tried is None:
            tried = space.sample(_TRIED, np.random.default_rng(0))
        if self.feasible_mask(tried).any():
            return
        found = self.static_attributes(tried)
        ranges = (
            f"{limit.name} runs from {np.min(found[limit.name]):g} to {np.max(found[limit.name]):g}"
            for limit in {limit.name: limit for limit in limits}.values()
        )
        raise ConfigError(
            f"constraints: none of {len(tried):,} architectures keeps "
            f"{' and '.join(str(limit) for limit in limits)}; {', '.join(ranges)}"
        )


def higher_is_better(values: Array, directions: Sequence[Any]) -> Array:
    """Turn objective values (L, M) so that higher is better in every column."""
    signs = [1.0 if str(getattr(d, "name", d)).lower() == "maximize" else -1.0 for d in directions]
    turned: Array = values * np.array(signs)
    return turned
