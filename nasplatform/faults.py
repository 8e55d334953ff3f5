"""What the machine and the libraries below us raise, in one line: what is wrong, what is safe.

The system, databases, Arrow and safetensors have exceptions of their own, and so have the plug-ins
of third parties. Here, and nowhere else, they become words that say whether anything
was lost and how to go on.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from nasplatform import plugins
from nasplatform.passwords import without_password

_CODES = re.compile(r"\[Errno -?\d+\] |\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_CUT_OFF = "Error while deserializing"
_LONGEST = 240  # characters of another library's message
_STORAGE = frozenset({"sqlite3", "sqlalchemy", "optuna", "psycopg", "psycopg2"})
_READERS = frozenset({"pyarrow", "safetensors", "safetensors_rust", "zipfile", "zlib", "tarfile"})
_SAFE = "everything that was written before is whole"
_FULL = f"the disk is full; {_SAFE}: make room, then run the same command again with --resume"
_OF_SYSTEM = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: f"the quota of this user is used up; {_SAFE}: make room, then use --resume",
    errno.EMFILE: "too many files are open: raise the limit, e.g. 'ulimit -n 4096'",
    errno.EIO: f"the disk cannot be read or written; {_SAFE} if the disk is",
    errno.EROFS: "the disk is read-only: give a place that can be written to",
    errno.EACCES: "permission denied: give a place that this user may use",
    errno.ENOMEM: f"there is no memory left; {_SAFE}",
}
_OF_DATABASES = (
    ("database or disk is full", _FULL),
    ("is locked", f"another process holds it; {_SAFE}: end that one, then use --resume"),
    ("malformed", "it is damaged: restore a copy, or begin anew with --force"),
    ("not a database", "it is damaged: restore a copy, or begin anew with --force"),
    ("disk i/o error", f"the disk cannot be read or written; {_SAFE} if the disk is"),
    ("readonly", "it cannot be written to: give a place that this user may write to"),
    ("unable to open", "it cannot be opened: look whether it is there and may be read"),
)


def in_words(error: BaseException) -> str | None:
    """Return one line about a failure outside of our code; None where it looks like our own."""
    for each in _chain(error):
        words = _of_system(each) or _of_library(each) or _of_plugin(each)
        if words is not None:
            return words
    return None


def short(error: BaseException) -> str:
    """Return what an exception says in one line of bounded length, its kind where it is silent."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if said.startswith(_CUT_OFF):  # what safetensors says of anything
        said = "expected a whole file of safetensors, this is another one or cut off"
    words = " ".join(_CODES.sub("", said[: 4 * _LONGEST]).split())
    words = without_password(words) or type(error).__name__
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "..."


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, its kind where it is silent."""
    return _CODES.sub("", (str(error).splitlines() or [""])[0]).strip() or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came from, the first cause last."""
    seen = set[int]()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        yield now
        now = now.__cause__ or (None if now.__suppress_context__ else now.__context__)


def _of_system(error: BaseException) -> str | None:
    if _out_of_memory(error):
        return f"there is not enough memory, a smaller batch_size needs less; {_SAFE}"
    if not isinstance(error, OSError):
        return None
    words = _OF_SYSTEM.get(error.errno or 0) or error.strerror or short(error)
    return words if error.filename is None else f"{str(error.filename)[:_LONGEST]}: {words}"


def _of_plugin(error: BaseException) -> str | None:
    """Say which function of a third party's plug-in raised, where one did."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        module = str(frame.f_globals.get("__name__", ""))
        found = plugins.of_third_party(module)
        if found is not None:
            code = frame.f_code
            return (
                f"{found}: {code.co_qualname} ({Path(code.co_filename).name}, line {line}) "
                f"raised {type(error).__name__}: {short(error)}"
            )
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, of Python, or of torch on a CPU or a GPU."""
    words = ("can't allocate memory", "out of memory")
    of_torch = isinstance(error, RuntimeError) and any(part in str(error) for part in words)
    return of_torch or isinstance(error, MemoryError)


def _of_library(error: BaseException) -> str | None:
    if "no space left on device" in str(error)[:_LONGEST].lower():  # of a library in Rust or C++
        return _FULL
    homes = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    said = short(getattr(error, "orig", None) or error)
    if homes & _STORAGE:
        for sign, words in _OF_DATABASES:
            if sign in said.lower():
                return f"the database failed ({said}): {words}"
        return f"the database failed ({said}); {_SAFE}"
    if homes & _READERS:
        return f"a file is damaged ({said}): make it anew, or restore a copy"
    return None
