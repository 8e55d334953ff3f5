"""What long work tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One sign of life.

    phase:       what goes on, one word: ``search``, ``stages``, ``build``, ...
    done, total: steps of the phase; total is 0 where it is not known.
    words:       a few words for people.
    """

    phase: str
    done: int
    total: int
    words: str


Watch = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Watch nothing."""
