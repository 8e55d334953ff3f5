"""What every plug-in is and takes, known without importing it again.

To import all of them takes seconds, because of the libraries behind them. What was found is kept in
the cache folder, under a digest of what is registered and of the sources it stands in.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nasplatform import plugins
from nasplatform.atomic_io import cache_folder, write_text
from nasplatform.errors import PluginError, did_you_mean
from nasplatform.plugin_contracts import options_model
from nasplatform.plugin_imports import said

_KEPT = 4  # catalogues in the cache folder
_SUMMARY = 200  # characters


@dataclass(frozen=True)
class Entry:
    """One registered plug-in.

    origin, version: of the distribution that it comes from.
    summary:         what it is, in a line.
    schema:          JSON schema of its options; None for a kind that has none.
    min_labels:      of a predictor: how many it needs.
    error:           what broke when it was imported.
    """

    kind: str
    name: str
    origin: str
    version: str
    summary: str = ""
    schema: dict[str, Any] | None = None
    min_labels: int | None = None
    error: str | None = None


def catalogue(announce: Callable[[str], None] = lambda words: None) -> list[Entry]:
    """Return every plug-in of every kind, by kind and name; broken ones with what broke.

    announce: is told where plug-ins must be imported, which takes seconds, because nothing is
              kept of them.
    """
    registered = [(kind, one) for kind in plugins.KINDS for one in plugins.registered(kind)]
    single = [(kind, entry) for kind, entries in registered for entry in entries]
    file = cache_folder() / f"plugins-{_fingerprint(single)}.json"
    known = _read(file)
    new = len({(kind, entry.name) for kind, entry in single} - known.keys())
    if new:
        announce(f"importing {new} plug-in(s), once; those that work are kept in {file.parent}")
    made = [
        (known.get((kind, entries[0].name)) if len(entries) == 1 else None)
        or _described(kind, entries[0])
        for kind, entries in registered
    ]
    if any(each.error is None and (each.kind, each.name) not in known for each in made):
        _write(file, [each for each in made if each.error is None])
    return made


def of_kind(kind: str, announce: Callable[[str], None] = lambda words: None) -> dict[str, Entry]:
    """Return name -> plug-in of one kind; raise PluginError for an unknown kind."""
    if kind not in plugins.KINDS:
        near = did_you_mean(kind, plugins.KINDS)
        raise PluginError(f"unknown kind of plug-in {kind!r}{near}")
    return {each.name: each for each in catalogue(announce) if each.kind == kind}


def _described(kind: str, entry: EntryPoint) -> Entry:
    from nasplatform.options import schema_of

    origin = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    try:
        plugin = plugins.get(kind, entry.name)
        model = _options_model(kind, plugin)
        return Entry(
            kind=kind,
            name=entry.name,
            origin=origin,
            version=version,
            summary=_summary(plugin),
            schema=model and schema_of(model, f"{kind}.{entry.name}."),
            min_labels=_whole(getattr(plugin, "min_labels", None)),
        )
    except PluginError as error:
        return Entry(kind, entry.name, origin, version, error=str(error))
    except Exception as error:  # whatever a third party's options raise when they are described
        if plugins.module_of(entry).startswith("nasplatform."):
            raise
        words = f"{kind.rstrip('s')} {entry.name!r} ({entry.value}) cannot be described"
        return Entry(kind, entry.name, origin, version, error=f"{words}: {said(error)}")


def _summary(plugin: Any) -> str:
    words = plugin.__doc__ if isinstance(plugin.__doc__, str) else ""
    return words.strip().split("\n")[0][:_SUMMARY]


def _whole(number: Any) -> int | None:
    return number if isinstance(number, int) else None


def _options_model(kind: str, plugin: Any) -> Any:
    """Return the model of the options: of a class its ``Options``, of a function its argument."""
    if kind in ("datasets", "networks"):
        return options_model(plugin)
    return getattr(plugin, "Options", None)


def _fingerprint(registered: list[tuple[str, EntryPoint]]) -> str:
    """Return a digest of what is registered, and of the sizes and dates of its sources."""
    digest = hashlib.sha256(sys.version.encode())
    for kind, entry in registered:
        version = entry.dist.version if entry.dist else ""
        digest.update(f"{kind} {entry.name} {entry.value} {version}\n".encode())
    for package in sorted({plugins.module_of(entry).partition(".")[0] for _, entry in registered}):
        for file in _sources(package):
            with suppress(OSError):  # a link to nothing
                state = file.stat()
                digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _sources(package: str) -> Iterator[Path]:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # no name of a module, or one that hides its source
        return
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from sorted(Path(folder).rglob("*.py"))
    if spec and not spec.submodule_search_locations and spec.origin:
        yield Path(spec.origin)


def _read(file: Path) -> dict[tuple[str, str], Entry]:
    try:
        found = [Entry(**each) for each in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):  # not there, or damaged: it is made anew
        return {}
    return {(each.kind, each.name): each for each in found}


def _write(file: Path, entries: list[Entry]) -> None:
    try:
        write_text(file, json.dumps([asdict(each) for each in entries]))
        known = sorted(file.parent.glob("plugins-*.json"), key=lambda path: path.stat().st_mtime)
        for old in known[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:  # a cache that cannot be written only costs time
        return
