"""Plug-ins by entry point: the built-ins are registered exactly as a third party's are."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from nasplatform.complaints import explain, validated
from nasplatform.errors import ConfigError, ContractError, PluginError, did_you_mean
from nasplatform.plugin_contracts import called, check_made, complaint

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
        if entry.module == module and not module.startswith("nasplatform.")
    ]
    if len(found) == 1:
        return found[0]
    return f"plug-ins of {module!r}" if found else None


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
    unique = {(e.name, e.value): e for e in entry_points(group=f"nasplatform.{kind}")}
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in unique.values():
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


@cache
def _load(kind: str, entries: tuple[EntryPoint, ...]) -> Any:
    entry = entries[0]
    if len(entries) > 1:
        makers = ", ".join(each.value for each in entries)
        raise PluginError(f"two {kind} are called {entry.name!r}: {makers}; uninstall one of them")
    what = f"{kind.rstrip('s')} {entry.name!r} ({entry.value})"
    try:
        with _interrupts_told() as told:
            found = entry.load()
    except BaseException as error:  # whatever a third party's module raises, even to end us
        if told:
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise ContractError(f"{what} is broken: {words}") from error
    if (lacks := complaint(kind, entry.name, found)) is not None:
        raise ContractError(f"{what} is broken: {lacks}")
    return found


@contextmanager
def _interrupts_told() -> Iterator[list[int]]:
    """Yield what fills with the signals that come meanwhile: a real Ctrl-C is nobody's fault."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        told.append(number)
        raise KeyboardInterrupt

    if not callable(before):
        yield told
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)
