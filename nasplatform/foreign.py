"""Files that others may have written: read within bounds, and blamed in one line.

A file that comes from outside may be a pipe that never ends, larger than the memory, or hold
anything at all. Readers take its bytes from here, and put what they make of them into a
``blaming`` block: whatever a parser raises then concerns the file, not the program.
"""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from nasplatform import faults
from nasplatform.complaints import in_short, shortened
from nasplatform.errors import ContractError, InputError, NasplatformError
from nasplatform.paths import impossible

_TEXT = 16 << 20  # bytes of a file of settings or facts
_MEMBER = 1 << 20  # bytes of what a tar says of one of its files
_LISTING = 2 << 20  # bytes of what a zip says of all of its files, some 20,000
_HEADERS = frozenset(
    {
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    }
)


@contextmanager
def blaming(
    path: Path | str, kind: type[InputError], words: str = "damaged", advice: str = ""
) -> Iterator[None]:
    """Turn whatever the block raises into ``PATH: WORDS (reason)ADVICE``, an error of ``kind``.

    Errors of the platform that name the path pass as they are, and so do the faults of plug-ins
    and the wish to end the program.
    """
    try:
        yield
    except ContractError:
        raise
    except InputError as error:
        if str(path) in str(error):
            raise
        raise kind(f"{path}: {words} ({faults.short(error)}){advice}") from error
    except (NasplatformError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    # also BaseException: a panic in a library written in Rust is no Exception
    except BaseException as error:
        raise kind(f"{path}: {words} ({_reason(error)}){advice}") from error


def _reason(error: BaseException) -> str:
    """Say what is wrong with a file, where Python only says at which step it was noticed."""
    if isinstance(error, KeyError):
        return f"key {faults.short(error)} is missing"
    if isinstance(error, (AttributeError, IndexError, TypeError)):
        return "it is built in another way"
    return faults.short(error)


def require_regular(path: Path) -> int:
    """Return the bytes of a regular file; OSError where it is missing or something else."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path.name or path} is no regular file")
    return found.st_size


def require_tensors(path: Path) -> None:
    """Raise as ``require_regular``, and ValueError for a safetensors file of endless names."""
    whole = require_regular(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if _TEXT < size <= whole:  # of one that is cut off, or none, the library tells
        raise ValueError(f"a header of {size:,} bytes, expected at most {_TEXT:,}")


def read_bytes(path: Path, limit: int = _TEXT) -> bytes:
    """Return a regular file's bytes; OSError for a pipe or a device, ValueError beyond limit."""
    size = require_regular(path)
    if size > limit:
        raise ValueError(f"it has {size:,} bytes, expected at most {limit:,}")
    with path.open("rb") as file:
        return file.read(limit)


def read_text(path: Path, limit: int = _TEXT) -> str:
    """Return a regular file's text (UTF-8, a byte order mark left out); see ``read_bytes``."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8 text") from None


def read_json(path: Path, limit: int = _TEXT) -> Any:
    """Return what a regular file of JSON holds; see ``read_bytes`` and ``parse_json``."""
    return parse_json(read_text(path, limit))


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; ValueError where it is none, InputError for a key given twice."""
    return json.loads(text, object_pairs_hook=_with_single_keys)


def _with_single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise InputError(f"key {twice!r:.80} stands twice")
    return found


class TarMember(tarfile.TarInfo):
    """For ``tarfile.open(..., tarinfo=TarMember)``, which reads any header into memory as it is."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a block; raise ValueError where it announces a header of more than a MiB."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in _HEADERS and found.size > _MEMBER:
            raise ValueError(f"a header of {found.size:,} bytes, expected at most {_MEMBER:,}")
        return found


class _Listing(io.BufferedReader):
    """A file that is read for its list of files alone."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; raise ValueError for more than such a list may have."""
        if size is not None and size > _LISTING:
            raise ValueError(f"a list of files of {size:,} bytes, expected at most {_LISTING:,}")
        return super().read(size)


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """Return what a zip says of its files; ValueError where that would take long to read."""
    with _Listing(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        return archive.infolist()


def path_of(value: object, error: type[NasplatformError]) -> Path:
    """Return a path that was given as one or as text; raise ``error`` for what can be none."""
    if not isinstance(value, str | os.PathLike):
        raise error(f"expected the path of a file or folder, got {type(value).__name__}")
    path = Path(value)
    if (why := impossible(path)) is not None:
        raise error(f"{in_short(str(path))}: {why}")
    return path


def require_list(value: object, error: type[NasplatformError], wanted: str) -> None:
    """Raise ``error`` for one path, or whatever else is no list of them."""
    if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Iterable):
        raise error(f"expected a list of {wanted}, got {shortened(value)}")


def require_flags(error: type[NasplatformError], **flags: object) -> None:
    """Raise ``error`` for a flag that is neither true nor false: the text 'no' would be true."""
    for name, value in flags.items():
        if type(value).__name__ not in ("bool", "bool_"):
            raise error(f"{name}: expected True or False, got {shortened(value)}")
