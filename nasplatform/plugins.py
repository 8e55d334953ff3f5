"""Plug-ins by entry point: the built-ins are registered exactly as a third party's are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from nasplatform.complaints import explain, validated
from nasplatform.errors import ConfigError, ContractError, PluginError, did_you_mean
from nasplatform.plugin_contracts import called, check_made, complaint
from nasplatform.plugin_imports import contained, interrupts_told, said

KINDS = (
    *("spaces", "encodings", "predictors", "evaluators", "stages", "datasets", "samplers"),
    *("networks", "edits", "runtimes", "executors"),
)


def get(kind: str, name: str) -> Any:
    """Load a plug-in; raise PluginError where it is unknown, clashes or does not import."""
    known = _entries(kind)
    if not isinstance(name, str):
        raise PluginError(f"expected the name of a {kind.rstrip('s')}, got {type(name).__name__}")
    if name not in known:
        raise PluginError(f"unknown {kind.rstrip('s')} {name!r:.80}{did_you_mean(name, known)}")
    return _load(kind, known[name])


def make(kind: str, name: str, *args: Any, by: str | None = None, **kwargs: Any) -> Any:
    """Make a plug-in that is a class, with its constructor or its class method ``by``.

    Raises PluginError as ``get`` does, and where it takes other arguments or makes something else.
    """
    found = get(kind, name)
    what = f"{kind.rstrip('s')} {name!r}"
    made = called(what, found if by is None else getattr(found, by), *args, **kwargs)
    check_made(kind, what, made)
    return made


def names(kind: str) -> list[str]:
    """Return the names registered for a kind, sorted."""
    return sorted(_entries(kind))


def working(kind: str) -> dict[str, Any]:
    """Load every plug-in of a kind; a broken one is reported as a warning and skipped."""
    loaded = {}
    for name, entries in sorted(_entries(kind).items()):
        try:
            loaded[name] = _load(kind, entries)
        except PluginError as error:
            warnings.warn(str(error), stacklevel=2)
    return loaded


def registered(kind: str) -> list[tuple[EntryPoint, ...]]:
    """Return what is registered for a kind, by name, without importing it; two are a clash."""
    return [entries for _, entries in sorted(_entries(kind).items())]


def of_third_party(module: str) -> str | None:
    """Return which plug-ins, of others than the platform, a module makes; None where none."""
    found = [
        f"{kind.rstrip('s')} {entry.name!r}"
        for kind in KINDS
        for entries in registered(kind)
        for entry in entries
        if module_of(entry) == module and not module.startswith("nasplatform.")
    ]
    if len(found) == 1:
        return found[0]
    return f"plug-ins of {module!r}" if found else None


def module_of(entry: EntryPoint) -> str:
    """Return the module that an entry point names; empty where it names none."""
    match = EntryPoint.pattern.match(entry.value)
    return match["module"] if match else ""


def make_options(model: type[BaseModel], values: dict[str, Any], where: str) -> BaseModel:
    """Validate the options of a plug-in; raise ConfigError that names ``where`` and the key."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {type(values).__name__}")
    try:
        return validated(model, values)
    except ValidationError as error:
        raise ConfigError(explain(error, model, where, values)) from None


@cache
def _entries(kind: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Return name -> what is registered under it: more than one is a clash."""
    if kind not in KINDS:
        raise PluginError(f"unknown kind of plug-in {kind!r}{did_you_mean(kind, KINDS)}")
    unique = {(e.name, e.value): e for e in _installed(f"nasplatform.{kind}")}
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in unique.values():
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _installed(group: str) -> Iterable[EntryPoint]:
    """Return the entry points of a group; raise PluginError where those of a package are damaged.

    Python then reads none of any package, and so do torch and others: there is no going on.
    """
    try:
        return entry_points(group=group)
    except Exception as error:  # whatever Python's reader of metadata raises
        damaged = ", ".join(_damaged()) or "a package"
        words = f"entry_points.txt is damaged ({said(error)}): install it again, or remove it"
        raise PluginError(f"{damaged}: {words}") from None


def _damaged() -> Iterator[str]:
    """Yield the places of the packages whose entry points cannot be read."""
    for one in distributions():
        try:
            list(one.entry_points)
        except Exception:  # as above
            yield str(one.locate_file("")) + f" ({one.metadata['Name'] or 'without a name'})"


@cache
def _load(kind: str, entries: tuple[EntryPoint, ...]) -> Any:
    entry = entries[0]
    if len(entries) > 1:
        makers = ", ".join(each.value for each in entries)
        raise PluginError(f"two {kind} are called {entry.name!r}: {makers}; uninstall one of them")
    what = f"{kind.rstrip('s')} {entry.name!r} ({entry.value})"
    module = module_of(entry)
    if not module:
        raise ContractError(f"{what} is broken: expected MODULE:NAME")
    try:
        with interrupts_told() as told, contained(what, module):
            found = entry.load()
            lacks = complaint(kind, entry.name, found)
    except BaseException as error:  # whatever a third party's module raises, even to end us
        if told:
            raise
        raise ContractError(f"{what} is broken: {said(error)}") from error
    if lacks is not None:
        raise ContractError(f"{what} is broken: {lacks}")
    return found
