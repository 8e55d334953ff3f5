"""Where the checkpoints of trainings lie on the way: in a folder, or behind a URL of fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from nasplatform.errors import ConfigError, MissingExtraError
from nasplatform.foreign import path_of
from nasplatform.passwords import without_password


class Shelf:
    """A folder of files that trainings write and read by themselves; several may share it."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made for the first file."""
        self.folder = folder

    def take(self, name: str) -> Path:
        """Return the file of a training on this machine, fetched if it lies elsewhere."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def put(self, name: str) -> None:
        """Take note that a file was written."""

    def drop(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)


class RemoteShelf(Shelf):
    """Copies of a folder's files behind a URL; each appears whole or not at all.

    Raises ConnectionError where the place does not answer: that may pass.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        """Take the URL and where files lie here; raise ConfigError where it cannot be reached."""
        self._kept = TemporaryDirectory() if folder is None else None
        super().__init__(folder or Path(self._kept.name if self._kept else "."))
        self._where = f"checkpoints {without_password(url)!r}"
        self._files, self._root = self._open(url)
        self._sent: dict[str, int] = {}  # name -> time of the change that was sent

    def take(self, name: str) -> Path:
        """Return the file of a training on this machine, fetched where it is not here yet."""
        file = super().take(name)
        with self._reached():
            if not file.exists() and self._files.exists(self._place(name)):
                self._files.get_file(self._place(name), str(file))
                self._sent[name] = file.stat().st_mtime_ns
        return file

    def put(self, name: str) -> None:
        """Send a file, unless it was sent as it is."""
        file = self.folder / name
        written = file.stat().st_mtime_ns
        if self._sent.get(name) == written:
            return
        part = self._place(f".{name}-{uuid4().hex[:8]}.part")
        with self._reached():
            self._files.put_file(str(file), part)
            self._files.mv(part, self._place(name))
        self._sent[name] = written

    def drop(self, name: str) -> None:
        """Remove a file here and there."""
        super().drop(name)
        self._sent.pop(name, None)
        with self._reached(), suppress(FileNotFoundError):
            self._files.rm_file(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _open(self, url: str) -> tuple[Any, str]:
        try:
            import fsspec  # type: ignore[import-untyped]  # it has no types
        except ImportError:
            raise MissingExtraError(
                f"{self._where} needs a package that is not installed: "
                f"pip install 'nasplatform[remote]'"
            ) from None
        try:
            files, root = fsspec.core.url_to_fs(url)
            files.makedirs(root, exist_ok=True)
        except ImportError as error:  # its words name the package of the protocol
            raise MissingExtraError(f"{self._where}: {error}") from None
        except Exception as error:  # each protocol has errors of its own
            raise ConfigError(f"{self._where} cannot be used: {_words(error)}") from None
        return files, root.rstrip("/")

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # each protocol has errors of its own
            raise ConnectionError(f"{self._where}: {_words(error)}") from error


def open_shelf(place: str, folder: Path | None = None) -> Shelf:
    """Open a path that machines share, or a URL; ``folder`` is for the copies on this machine."""
    return RemoteShelf(place, folder) if "://" in place else Shelf(path_of(place, ConfigError))


def _words(error: Exception) -> str:
    return without_password((str(error).splitlines() or [type(error).__name__])[0])
