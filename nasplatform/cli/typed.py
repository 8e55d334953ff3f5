"""Numbers and paths as they are typed, read by the rule of the files.

Python and typer take ``1_0`` and digits of other scripts for numbers, and make a folder called ~.
"""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path

from nasplatform.paths import impossible

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


def plain_number(text: str, kind: type = int) -> str:
    """Return a number without blanks around it; raise ValueError where it is not of that kind."""
    stripped = text.strip()
    read = (_WHOLE if kind is int else _REAL).fullmatch(stripped)
    if read and isfinite(float(stripped)):
        return stripped
    raise ValueError(f"expected a{' whole' * (kind is int)} number, got {text!r:.80}")


def plain_path(text: str) -> str:
    """Return a path; raise ValueError where nothing can stand there."""
    if (why := impossible(Path(text))) is not None:
        raise ValueError(f"{text!r:.80}: {why}")
    return text
