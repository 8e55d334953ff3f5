"""Whether the methods of a space give what the others will read, tried on a few architectures."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from nasplatform.errors import ContractError
from nasplatform.spaces.base import Population, Space
from nasplatform.spaces.graph import GraphBatch

_checked: set[type[Space[Any]]] = set()


def check_space(space: Space[Any]) -> None:
    """Raise ContractError where a method answers with something else; each class is tried once."""
    if type(space) in _checked:
        return
    some = space.sample(2, np.random.Generator(np.random.PCG64(0)))
    _require(space, "sample", some, Population, 2)
    one, other = some[0], some[1]
    packed = space.population([one, other, one])
    _require(space, "population", packed, Population, 3)
    _require(space, "from_codes", space.from_codes(packed.codes), Population, 3)
    _require(space, "neighbours", space.neighbours([one]), Population)
    _check_text(space, one)
    _check_graphs(space, packed)
    _check_decisions(space, one)
    _checked.add(type(space))


def _check_text(space: Space[Any], one: Any) -> None:
    text = space.format(one)
    _require(space, "format", text, str)
    again = space.parse(text)
    if again != one:
        raise _wrong(space, f"parse makes {again!r:.80} of {text!r:.40}, which is {one!r:.80}")


def _check_graphs(space: Space[Any], packed: Population[Any]) -> None:
    graphs = space.graphs(packed)
    _require(space, "graphs", graphs, GraphBatch, len(packed))
    if graphs.space != space.name:
        raise _wrong(space, f"graphs says they are of space {graphs.space!r}, expected its own")


def _check_decisions(space: Space[Any], one: Any) -> None:
    known, params = space.distributions(), space.to_params(one)
    _require(space, "distributions", known, dict)
    for name, distribution in known.items():
        _require(space, f"distributions, decision {name!r}", distribution, BaseDistribution)
    _require(space, "to_params", params, dict)
    if strange := sorted(params.keys() - known.keys()):
        raise _wrong(space, f"to_params has {strange[0]!r}, which is not among distributions")
    again = space.from_params(params)
    if again != one:
        raise _wrong(space, f"from_params makes {again!r:.80} of the parameters of {one!r:.80}")


def _require(
    space: Space[Any], method: str, found: Any, kind: type[Any], count: int | None = None
) -> None:
    if not isinstance(found, kind):
        raise _wrong(
            space, f"{method} returned a {type(found).__name__}, expected a {kind.__name__}"
        )
    if count is not None and len(found) != count:
        raise _wrong(space, f"{method} returned {len(found)} of {count} architectures")


def _wrong(space: Space[Any], words: str) -> ContractError:
    return ContractError(f"space {space.name!r}: {words}")
