"""Architectures as other tools write them, ``FORM:TEXT``, e.g. ``naslib:(1, 3, 4, 3, 2, 2)``.

A space names the forms that it reads in ``Space.forms``: name -> function of the value, which the
text after the colon becomes here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nasplatform.errors import ArchitectureError, InputError, did_you_mean
from nasplatform.foreign import parse_json

Readers = Mapping[str, Callable[[Any], Any]]
_PREFIX = re.compile(r"([a-z][a-z0-9-]*):(.*)", re.DOTALL)
_WORD = re.compile(r"\w+|\|.*")  # or the text of a cell, which begins with a stroke
_LONGEST = 10_000  # characters


def split_form(text: str, readers: Readers) -> tuple[str, str] | None:
    """Return the form and the rest of a text; None where the text names no form.

    Raises ArchitectureError for a form that is not among the readers.
    """
    found = _PREFIX.fullmatch(text)
    if found is None:
        return None
    if found[1] not in readers:
        raise _unknown(found[1], readers)
    return found[1], found[2]


def read_form(form: str, value: Any, readers: Readers) -> Any:
    """Read a text, list, tuple, array or mapping of a form; raise ArchitectureError."""
    if form not in readers:
        raise _unknown(str(form), readers)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    try:
        return readers[form](_value(value) if isinstance(value, str) else value)
    except ArchitectureError as error:
        raise ArchitectureError(f"{form}: {error}") from None
    except (TypeError, LookupError, ValueError, OverflowError, AttributeError):
        about = (readers[form].__doc__ or "").partition("\n")[0]
        wanted = f": expected {about[5:].rstrip('.')}" if about.startswith("Read ") else ""
        raise ArchitectureError(
            f"{str(value)[:120]!r} is nothing that {form} writes{wanted}"
        ) from None


def _unknown(form: str, readers: Readers) -> ArchitectureError:
    known = did_you_mean(form, readers) or "; this space reads none"
    return ArchitectureError(f"unknown form {form!r:.80}{known}")


def indices(value: Any, count: int, below: int) -> list[int]:
    """Return whole numbers 0 to ``below`` - 1; raise ArchitectureError for anything else."""
    numbers = list(value)
    if len(numbers) != count:
        raise ArchitectureError(f"expected {count} operations, found {len(numbers)}")
    for place, number in enumerate(numbers, start=1):
        if isinstance(number, bool) or number != int(number) or not 0 <= number < below:
            raise ArchitectureError(
                f"operation {place} is {number!r}, expected a whole number from 0 to {below - 1}"
            )
    return [int(number) for number in numbers]


def _value(text: str) -> Any:
    """Return what a text says: digits in a row, a list or tuple, or JSON; a word stays one."""
    text = text.strip()
    if len(text) > _LONGEST:
        raise ArchitectureError(f"a text of {len(text):,} characters is no architecture")
    if text.isascii() and text.isdigit():
        return [int(digit) for digit in text]
    if _WORD.fullmatch(text):
        return text
    inner = text.replace("(", "[").replace(")", "]").replace("'", '"')
    if re.fullmatch(r"[0-9\s,]+", inner):
        inner = f"[{inner}]"
    try:
        return parse_json(re.sub(r",\s*\]", "]", inner))
    except InputError as error:
        raise ArchitectureError(f"{error}: {text[:120]!r}") from None
    except (ValueError, RecursionError):
        raise ArchitectureError(f"{text[:120]!r} is neither digits, a list nor JSON") from None
