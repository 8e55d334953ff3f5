"""Where fitted predictors live on disk: immutable versions, an alias, and their labels.

    STORE/NAME/1/            a version: what ``save_predictor`` wrote, ``labels.parquet`` where the
                             labels are known, and ``version.json`` with a digest of every file
    STORE/NAME/aliases.json  alias -> version, where set by hand; ``latest`` is else the newest
    STORE/NAME/reported.jsonl  results that clients reported
    STORE/NAME/.views/       rankings of the space that a service keeps for its next start
    STORE/NAME/card.json     a folder that ``save_predictor`` wrote right here is version 1, too

A version appears by one rename and is never changed. Whoever writes holds ``NAME/.lock``, which
the kernel frees when its holder dies; a half-written folder starts with a dot, is never read, and
is removed by the next writer. Killed at any moment, the store opens clean.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from nasplatform.atomic_io import recover, sha256, write_text
from nasplatform.errors import PredictorError, did_you_mean
from nasplatform.foreign import blaming, path_of, read_json, require_regular
from nasplatform.predictors.base import Predictor, read_card
from nasplatform.runs.saved import LEARNT_FROM, SPACE, load_predictor, save_predictor, try_out
from nasplatform.service.facts import VersionFacts, read_facts
from nasplatform.service.labels import LABELS, Labels, read_labels, write_labels
from nasplatform.spaces.base import Space

LATEST = "latest"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VERSION_FILE = "version.json"
_FILES = ("card.json", "state.safetensors", SPACE)
_WATCHED = frozenset({*_FILES, _VERSION_FILE, LABELS})
_OF_NAME = frozenset({"aliases.json", "reported.jsonl", "card.json"})
_LARGEST = 4 << 30  # bytes of a file of a version; more would take minutes to look at
_DIGITS = 18  # of a version's number


@dataclass(frozen=True)
class Version:
    """One immutable version: its name, number, folder, and what its ``version.json`` says."""

    name: str
    number: int
    folder: Path
    facts: VersionFacts

    @property
    def label(self) -> str:
        """How it is asked for: ``NAME@NUMBER``."""
        return f"{self.name}@{self.number}"


class PredictorStore:
    """A folder of named predictors in numbered versions. Safe with several processes."""

    def __init__(self, folder: Path | str) -> None:
        """Open a folder, which is made where it is missing; leftovers of the dead are removed."""
        self.folder = path_of(folder, PredictorError)
        if self.folder.exists() and not self.folder.is_dir():
            raise PredictorError(f"{folder}: is a file, expected a folder of predictors")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._require_own()
        for folder in self._folders():
            self._sweep(folder.name)

    def _require_own(self) -> None:
        """Raise PredictorError where other things stand and no predictor: leftovers are removed."""
        if self.names():
            return
        for path in self._folders():
            if not _inside(path) <= _OF_NAME:
                raise PredictorError(
                    f"{self.folder}: holds {path.name!r} and no predictors: expected a store, "
                    f"NAME/VERSION, or a new or empty folder"
                )

    def names(self) -> list[str]:
        """Return the names that have at least one version, sorted."""
        return sorted(folder.name for folder in self._folders() if self._numbers(folder.name))

    def versions(self, name: str) -> list[int]:
        """Return the version numbers of a name, ascending; PredictorError for an unknown name."""
        self._require(name)
        return self._numbers(name)

    def aliases(self, name: str) -> dict[str, int]:
        """Return alias -> version, ``latest`` always among them."""
        return {LATEST: self.versions(name)[-1], **self._aliases(name)}

    def find(self, name: str, version: str | int = LATEST) -> Version:
        """Return a version by number or alias; PredictorError for an unknown one."""
        numbers, text = self.versions(name), str(version)
        number = ({str(n): n for n in numbers} | self.aliases(name)).get(text)
        if number is None:
            raise PredictorError(
                f"predictor {name!r} has no version {text!r:.40}; it has "
                f"{', '.join(map(str, numbers[-20:]))} and {LATEST!r}"
            )
        folder = self._version_folder(name, number)
        return Version(name, number, folder, read_facts(folder / _VERSION_FILE))

    def newest_first(self, name: str) -> list[int]:
        """Return what may answer as ``latest``: the version that it means, then all before it."""
        latest = self.aliases(name)[LATEST]
        return [number for number in reversed(self.versions(name)) if number <= latest]

    def stamp(self, name: str, number: int) -> tuple[object, ...]:
        """Return what changes whenever a file of a version does."""
        folder = self._version_folder(name, number)
        with os.scandir(folder) as entries:
            found = [(e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in entries]
        return tuple(sorted(each for each in found if each[0] in _WATCHED))

    def load(self, version: Version) -> tuple[Predictor, Space[Any]]:
        """Read a version; raise PredictorError where a file is not the one that was published."""
        with blaming(version.folder, PredictorError, "cannot be loaded"):
            for file, digest in version.facts.files.items():
                path = version.folder / Path(file).name
                if path.is_file() and path.stat().st_size > _LARGEST:
                    raise PredictorError(f"{path}: has more than {_LARGEST:,} bytes")
                if not path.is_file() or sha256(path) != digest:
                    raise PredictorError(
                        f"{path}: is missing or was changed after it was published"
                    )
            predictor, space = load_predictor(version.folder)
            try_out(predictor, space)
        return predictor, space

    def has_labels(self, version: Version) -> bool:
        """Return whether the labels of a version are known."""
        return (version.folder / LABELS).is_file()

    def labels(self, version: Version) -> Labels | None:
        """Return the labels that a version was fitted on, None where they are not known."""
        path = version.folder / LABELS
        return read_labels(path) if path.is_file() else None

    def publish(
        self,
        name: str,
        predictor: Predictor,
        space: Space[Any],
        labels: Labels | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> Version:
        """Write a new version; ``latest`` means it from now on.

        labels: what the predictor was fitted on; without them it cannot be refitted.
        origin: anything worth knowing of where it comes from, as JSON values.
        """
        with self._writing(name) as new:
            save_predictor(predictor, space, new / "content")
            return self._settle(name, new, labels, origin)

    def publish_folder(
        self,
        name: str,
        folder: Path | str,
        labels: Labels | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> Version:
        """Publish what ``save_predictor`` wrote, or the predictor of a run with its labels."""
        given = path_of(folder, PredictorError)
        home = given / "predictor" if (given / "predictor").is_dir() else given
        if labels is None:
            labels = _labels_beside(given, home)
        with self._writing(name) as new:
            (new / "content").mkdir()
            with blaming(home, PredictorError, "no predictor stands here"):
                for file in _FILES:
                    require_regular(home / file)
                    shutil.copyfile(home / file, new / "content" / file)
                if (home / LEARNT_FROM).is_file():
                    shutil.copyfile(home / LEARNT_FROM, new / "content" / LEARNT_FROM)
            try:
                return self._settle(name, new, labels, {"folder": given.name, **(origin or {})})
            except PredictorError as error:  # blame the files that were given, not their copies
                words = str(error).replace(str(new / "content"), str(home))
                raise PredictorError(words) from None

    def point(self, name: str, alias: str, number: int) -> None:
        """Let an alias, e.g. ``latest`` for a step back, mean a version."""
        if number not in self.versions(name) or not NAME.fullmatch(alias) or alias.isdigit():
            raise PredictorError(f"alias {alias!r} cannot mean version {number} of {name!r}")
        with self._locked(name):
            self._write_aliases(name, {**self._aliases(name), alias: number})

    def home(self, name: str) -> Path:
        """Return the folder of a known name."""
        self._require(name)
        return self.folder / name

    def _settle(
        self,
        name: str,
        new: Path,
        labels: Labels | None,
        origin: Mapping[str, Any] | None,
    ) -> Version:
        content = new / "content"
        try_out(
            *load_predictor(content)
        )  # what cannot be loaded, or says nothing, is not published
        if labels is not None:
            write_labels(labels, content / LABELS)
        facts = VersionFacts(
            published=datetime.now(UTC).isoformat(timespec="seconds"),
            n_labels=read_card(content)["n_labels"],
            origin=dict(origin or {}),
            files={path.name: sha256(path) for path in sorted(content.iterdir())},
        )
        write_text(content / _VERSION_FILE, facts.model_dump_json(indent=2) + "\n")
        _flush(content)
        number = max(self._numbers(name), default=0) + 1
        folder = self.folder / name / str(number)
        content.rename(folder)
        _flush_entry(folder.parent)
        self._write_aliases(name, {k: v for k, v in self._aliases(name).items() if k != LATEST})
        return Version(name, number, folder, facts)

    def _aliases(self, name: str) -> dict[str, int]:
        """Return the aliases that were set by hand."""
        try:
            written = read_json(self.folder / name / "aliases.json")
            known = self._numbers(name)
            return {str(k): v for k, v in written.items() if type(v) is int and v in known}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def _write_aliases(self, name: str, aliases: Mapping[str, int]) -> None:
        path = self.folder / name / "aliases.json"
        if aliases or path.is_file():
            write_text(path, json.dumps(aliases) + "\n")

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """Yield a hidden folder of the name, to be renamed; removed at the end in any case."""
        if not NAME.fullmatch(name):
            raise PredictorError(
                f"{name!r:.80} is no name for a predictor: letters, digits, '_' and '-', at most 64"
            )
        with self._locked(name):
            self._remove_leftovers(name)
            new = Path(tempfile.mkdtemp(dir=self.folder / name, prefix=".new-"))
            try:
                yield new
            finally:
                shutil.rmtree(new, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / name / ".lock"):
            yield

    def _sweep(self, name: str) -> None:
        """Remove what a dead writer left, unless a living one is at work."""
        lock = FileLock(self.folder / name / ".lock", blocking=False)
        try:
            with lock:
                self._remove_leftovers(name)
        except (TimeoutError, OSError):  # somebody writes, or the folder is read-only
            return

    def _remove_leftovers(self, name: str) -> None:
        for folder in (self.folder / name).glob(".new-*"):
            shutil.rmtree(folder, ignore_errors=True)
        recover(self.folder / name)

    def _folders(self) -> list[Path]:
        """Return the folders that may hold versions; one that cannot be looked at is none."""
        found = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return [path for path in found if os.path.isdir(path)]  # noqa: PTH112 - no OSError

    def _require(self, name: str) -> None:
        if not NAME.fullmatch(name) or not self._numbers(name):
            hint = did_you_mean(name[:80], self.names())
            raise PredictorError(f"unknown predictor {name[:80]!r}{hint}")

    def _numbers(self, name: str) -> list[int]:
        home = self.folder / name
        try:
            inside = [p.name for p in home.iterdir() if p.name.isascii() and p.name.isdigit()]
        except OSError:
            return []
        numbers = [n for n in inside if n[0] != "0" and len(n) <= _DIGITS]
        found = {int(n) for n in numbers if (home / n / "card.json").is_file()}
        if (home / "card.json").is_file():
            found.add(1)
        return sorted(found)

    def _version_folder(self, name: str, number: int) -> Path:
        folder = self.folder / name / str(number)
        return folder if (folder / "card.json").is_file() else self.folder / name


def _inside(path: Path) -> frozenset[str]:
    """Return the names in a folder, hidden ones apart; none where it cannot be looked at."""
    try:
        return frozenset(each.name for each in path.iterdir() if not each.name.startswith("."))
    except OSError:
        return frozenset()


def _labels_beside(folder: Path, home: Path) -> Labels | None:
    if (home / LABELS).is_file():
        return read_labels(home / LABELS)
    evaluations = folder / "evaluations.parquet"
    return read_labels(evaluations) if evaluations.is_file() else None


def _flush(folder: Path) -> None:
    """Bring the files of a folder and their entries to the disk before it gets its name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_entry(folder)


def _flush_entry(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
