"""Architectures that clients sent, read one by one: a bad one has an error of bounded length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.prepared import nobody_waits
from nasplatform.spaces.base import Population, Space

LONGEST = 20_000  # characters of an architecture; the longest text form of a space has some 2,000
_TOLD = 240  # characters of an error


def as_texts(items: Sequence[Any]) -> list[str]:
    """Turn the items of a request into texts; an object is the JSON form of an architecture."""
    return [item if isinstance(item, str) else json.dumps(item) for item in items]


def parse_texts(space: Space[Any], texts: Sequence[str]) -> tuple[Population[Any], dict[int, str]]:
    """Return the architectures of the good texts, in order, and the errors of the others.

    Raises NotReadyError for a text that can be read only when something is made.
    """
    fitting = [index for index, text in enumerate(texts) if len(text) <= LONGEST]
    with nobody_waits():
        population, failed = space.parse_many([texts[index] for index in fitting])
    errors = {index: _too_long(text) for index, text in enumerate(texts) if len(text) > LONGEST}
    errors |= {fitting[at]: _bounded(str(error)) for at, error in failed.items()}
    return population, errors


def parse_text(space: Space[Any], text: str) -> Any:
    """Return the architecture of one text; raise ArchitectureError or NotReadyError."""
    if len(text) > LONGEST:
        raise ArchitectureError(_too_long(text))
    with nobody_waits():
        return space.parse(text)


def _too_long(text: str) -> str:
    return f"a text of {len(text):,} characters: an architecture has at most {LONGEST:,}"


def _bounded(words: str) -> str:
    return words if len(words) <= _TOLD else words[:_TOLD] + "..."
