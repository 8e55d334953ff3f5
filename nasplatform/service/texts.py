"""Architectures that clients sent, read one by one: a bad one has an error of bounded length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.base import Population, Space

LONGEST = 20_000  # characters of an architecture; the longest text form of a space has some 2,000
_TOLD = 240  # characters of an error


def as_texts(items: Sequence[Any]) -> list[str]:
    """Turn the items of a request into texts; an object is the JSON form of an architecture."""
    return [item if isinstance(item, str) else json.dumps(item) for item in items]


def parse_texts(space: Space[Any], texts: Sequence[str]) -> tuple[Population[Any], dict[int, str]]:
    """Return the architectures of the good texts, in order, and the errors of the others."""
    if all(len(text) <= LONGEST for text in texts):
        population, failed = space.parse_many(texts)
        return population, {index: _bounded(str(error)) for index, error in failed.items()}
    fitting = [index for index, text in enumerate(texts) if len(text) <= LONGEST]
    population, failed = space.parse_many([texts[index] for index in fitting])
    errors = {index: _too_long(text) for index, text in enumerate(texts) if len(text) > LONGEST}
    errors |= {fitting[at]: _bounded(str(error)) for at, error in failed.items()}
    return population, errors


def require_short(text: str) -> str:
    """Return a text that may be an architecture; ArchitectureError for one that is too long."""
    if len(text) > LONGEST:
        raise ArchitectureError(_too_long(text))
    return text


def _too_long(text: str) -> str:
    return f"a text of {len(text):,} characters: an architecture has at most {LONGEST:,}"


def _bounded(words: str) -> str:
    return words if len(words) <= _TOLD else words[:_TOLD] + "..."
