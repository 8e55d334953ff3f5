"""Numbers as they are typed, read by the rule of the files: no ``1_0``, no digits of other scripts.

Python and typer read those as numbers.
"""

from __future__ import annotations

import re
from math import isfinite

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


def plain_number(text: str, kind: type = int) -> str:
    """Return a number without blanks around it; raise ValueError where it is not of that kind."""
    stripped = text.strip()
    read = (_WHOLE if kind is int else _REAL).fullmatch(stripped)
    if read and isfinite(float(stripped)):
        return stripped
    raise ValueError(f"expected a{' whole' * (kind is int)} number, got {text!r:.80}")
