"""What makes a search this search and no other, and what differs between two.

Space, evaluator, data, seed, sampler, predictor, objectives and constraints decide which trials a
search has; its stopping rules only decide how many, and its stages come after. So budget, target
and time may grow and stages may be added when a search goes on, and several workers need not
agree on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

STOPPING_RULES = frozenset({"budget", "max_seconds", "target"})
_KEYS = ("name", "seed", "space", "evaluator", "predictor", "task")


def identity_of(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved search that identifies it (see ``Experiment.resolved``)."""
    search, provenance = resolved.get("search", {}), resolved.get("provenance", {})
    return {
        **{key: resolved.get(key) for key in _KEYS},
        "search": {key: value for key, value in search.items() if key not in STOPPING_RULES},
        "provenance": {key: provenance.get(key) for key in ("measured", "data")},
    }


def stopping_rules(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stopping rules of a resolved search."""
    search = resolved.get("search", {})
    return {key: search.get(key) for key in STOPPING_RULES}


def differences(known: Any, given: Any, path: str = "") -> Iterator[str]:
    """Yield what differs, as ``KEY is VALUE there, VALUE given``, in the order of the keys."""
    if isinstance(known, Mapping) and isinstance(given, Mapping):
        for key in sorted(known.keys() | given.keys()):
            dotted = f"{path}.{key}" if path else str(key)
            yield from differences(known.get(key), given.get(key), dotted)
    elif isinstance(known, list) and isinstance(given, list) and len(known) == len(given):
        for index, (left, right) in enumerate(zip(known, given, strict=True)):
            yield from differences(left, right, f"{path}.{index}")
    elif known != given:
        yield f"{path} is {_short(known)} there, {_short(given)} given"


def _short(value: Any) -> str:
    """Say a value in a few words."""
    if isinstance(value, list):
        names = [one["name"] for one in value if isinstance(one, dict) and "name" in one]
        return f"[{', '.join(names)}]" if len(names) == len(value) else f"a list of {len(value)}"
    if isinstance(value, dict):
        return str(value.get("name", f"a section of {len(value)} keys"))
    return "not set" if value is None else repr(value)
