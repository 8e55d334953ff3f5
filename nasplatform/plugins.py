"""Plug-ins by entry point: the built-ins are registered exactly as a third party's are."""

from __future__ import annotations

import warnings
from collections import Counter
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from nasplatform.complaints import explain, validated
from nasplatform.errors import ConfigError, PluginError, did_you_mean

KINDS = (
    *("spaces", "encodings", "predictors", "evaluators", "stages", "datasets", "samplers"),
    *("networks", "edits", "runtimes", "executors"),
)


def get(kind: str, name: str) -> Any:
    """Load a plug-in; raise PluginError where it is unknown, clashes or does not import."""
    known = _entries(kind)
    if name not in known:
        raise PluginError(f"unknown {kind.rstrip('s')} {name!r}{did_you_mean(name, known)}")
    return _load(kind, known[name])


def names(kind: str) -> list[str]:
    """Return the names registered for a kind, sorted."""
    return sorted(_entries(kind))


def working(kind: str) -> dict[str, Any]:
    """Load every plug-in of a kind; a broken one is reported as a warning and skipped."""
    loaded = {}
    for name, entry in sorted(_entries(kind).items()):
        try:
            loaded[name] = _load(kind, entry)
        except PluginError as error:
            warnings.warn(str(error), stacklevel=2)
    return loaded


def registered(kind: str) -> list[EntryPoint]:
    """Return what is registered for a kind, by name, without importing it."""
    return [entry for _, entry in sorted(_entries(kind).items())]


def make_options(model: type[BaseModel], values: dict[str, Any], where: str) -> BaseModel:
    """Validate the options of a plug-in; raise ConfigError that names ``where`` and the key."""
    try:
        return validated(model, values)
    except ValidationError as error:
        raise ConfigError(explain(error, model, where, values)) from None


@cache
def _entries(kind: str) -> dict[str, EntryPoint]:
    if kind not in KINDS:
        raise PluginError(f"unknown kind of plug-in {kind!r}{did_you_mean(kind, KINDS)}")
    found = list(entry_points(group=f"nasplatform.{kind}"))
    unique = {(entry.name, entry.value): entry for entry in found}.values()
    twice = [name for name, count in Counter(e.name for e in unique).items() if count > 1]
    if twice:
        makers = ", ".join(e.value for e in unique if e.name == twice[0])
        raise PluginError(f"two {kind} are called {twice[0]!r}: {makers}; uninstall one of them")
    return {entry.name: entry for entry in unique}


@cache
def _load(kind: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever a third party's module raises on import
        raise PluginError(
            f"{kind.rstrip('s')} {entry.name!r} ({entry.value}) is broken: {error}"
        ) from error
