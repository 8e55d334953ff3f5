"""Files that appear whole or not at all, and where the user's own lie."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a disk says where it cannot take more."""
_LEFTOVER = re.compile(r"\.(?P<name>.+?)(?P<old>\.old)?\.[a-z0-9_]{8}")


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
        with _naming(path):
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
        with _naming(folder):
            yield temporary
            temporary.chmod(0o755)
            _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_own(folder: Path, names: Collection[str], error: type[Exception]) -> None:
    """Raise ``error`` where a folder that would be replaced holds other files, or is a file.

    names: of the files that a folder of the kind has.
    """
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - set(names))
        if others:
            raise error(f"{folder}: holds {others[0]!r}, which is not of ours; give another name")
    elif folder.exists():
        raise error(f"{folder}: is a file, expected the name of a folder")


def require_place(path: Path, error: type[Exception]) -> None:
    """Raise ``error`` where a path leads through a file, so that nothing can be made there."""
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir():
        raise error(f"{path}: {above.name} is a file, expected a folder")


def recover(folder: Path, age: float = 0.0) -> None:
    """Clear a folder of what killed processes left half-done in it, and put back what they moved.

    age: seconds for which a leftover must have been untouched; 0 where nobody else writes here.
    """
    for path in list(folder.iterdir()):
        match = _LEFTOVER.fullmatch(path.name)
        if not match or time.time() - path.lstat().st_mtime < age:
            continue
        kept = path / match["name"]
        if match["old"] and kept.exists() and not (folder / match["name"]).exists():
            kept.rename(folder / match["name"])
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _put(temporary: Path, folder: Path) -> None:
    """Rename a folder onto another one."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
        folder.replace(old / folder.name)
        temporary.replace(folder)
        shutil.rmtree(old)
    else:
        temporary.replace(folder)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an error of the disk say what could not be written: a full disk names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in DISK_ERRORS:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    except SafetensorError as error:  # which wraps what the system said
        found = re.search(r"(?:code: |os error )(\d+)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from None


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, atomically."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
