"""Paths at which nothing can stand, or nothing is meant to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NEVER = frozenset({errno.ENAMETOOLONG, errno.ELOOP})


def impossible(path: Path) -> str | None:
    """Return why nothing can stand at a path; None where something may, or does.

    A home that no shell has written out is none either: a folder called ~ would be made.
    """
    try:
        path.lstat()
    except ValueError:
        return "holds a zero byte"
    except OSError as error:  # what is missing or barred is told by whoever reads it
        if error.errno in _NEVER:
            return os.strerror(error.errno)
        if _is_home(Path(*path.parts[:1])):
            return f"only a shell writes {path.parts[0]} out: give the whole path"
    return None


def _is_home(part: Path) -> bool:
    try:
        return part.expanduser() != part
    except RuntimeError:  # of nobody: a name like any other
        return False
