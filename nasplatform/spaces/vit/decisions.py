"""Rows of a sub-space as decisions, for samplers that know nothing of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.choices import SubSpace


def distributions(subspace: SubSpace) -> dict[str, BaseDistribution]:
    """Return name -> distribution, depths before what depends on them."""
    return {
        one.name: _depths([int(depth) for depth in one.choices])
        if one.field == "depth"
        else CategoricalDistribution(one.choices)
        for one in subspace.decisions
    }


def _depths(choices: Sequence[int]) -> IntDistribution:
    return IntDistribution(choices[0], choices[-1], step=choices[1] - choices[0])


def active(params: Mapping[str, Any], subspace: SubSpace) -> frozenset[str]:
    """Return what is decided given the depths; without one, what the least depth has."""
    found = set()
    for decision, (depth, least) in zip(subspace.decisions, subspace.depths, strict=True):
        known = subspace.decisions[depth]
        reached = params.get(known.name, known.choices[0])
        if not least or reached >= known.choices[least - 1]:
            found.add(decision.name)
    return frozenset(found)


def to_params(row: Sequence[int], subspace: SubSpace) -> dict[str, Any]:
    """Return the decisions of a row."""
    pairs = zip(subspace.decisions, row, strict=True)
    return {decision.name: decision.choices[place - 1] for decision, place in pairs if place}


def to_row(params: Mapping[str, Any], subspace: SubSpace) -> list[int]:
    """Return the row of decisions; what is not active is ignored.

    Raises ArchitectureError for one that is missing or has no such choice.
    """
    known = active(params, subspace)
    missing = next((d.name for d in subspace.decisions if d.name in known - params.keys()), None)
    if missing is not None:
        raise ArchitectureError(f"decision {missing!r} is missing")
    return [
        decision.place(params[decision.name]) if decision.name in known else 0
        for decision in subspace.decisions
    ]
