"""Files that appear whole or not at all, and where the user's own lie."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def user_folder() -> Path:
    """Return the folder of imported tables and fetched data sets.

    $NASPLATFORM_HOME, else ``nasplatform`` in $XDG_DATA_HOME or ~/.local/share.
    """
    return _folder("NASPLATFORM_HOME", "XDG_DATA_HOME", ".local/share")


def cache_folder() -> Path:
    """Return the folder of what can be made again.

    $NASPLATFORM_CACHE, else ``nasplatform`` in $XDG_CACHE_HOME or ~/.cache.
    """
    return _folder("NASPLATFORM_CACHE", "XDG_CACHE_HOME", ".cache")


def _folder(own: str, shared: str, default: str) -> Path:
    if chosen := os.environ.get(own):
        return Path(chosen)
    base = os.environ.get(shared, "")
    return (Path(base) if base.startswith("/") else Path.home() / default) / "nasplatform"


def datasets_folder() -> Path:
    """Return the folder of fetched data sets, one folder for each."""
    return user_folder() / "datasets"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it onto ``path`` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; it takes its place when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            folder.replace(old / folder.name)
            temporary.replace(folder)
            shutil.rmtree(old)
        else:
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, atomically."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
