"""Paths at which nothing can stand, whatever is made or removed there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NEVER = frozenset({errno.ENAMETOOLONG, errno.ELOOP})


def impossible(path: Path) -> str | None:
    """Return why nothing can stand at a path; None where something may, or does."""
    try:
        path.lstat()
    except ValueError:
        return "holds a zero byte"
    except OSError as error:  # what is missing or barred is told by whoever reads it
        return os.strerror(error.errno) if error.errno in _NEVER else None
    return None
