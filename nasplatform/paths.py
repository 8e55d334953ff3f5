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
        home = path.parts[0] if path.parts else ""
        return f"only a shell writes {home} out: give the whole path" if home[:1] == "~" else None
    return None
