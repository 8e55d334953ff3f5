"""A database that is away for a while: told from a mistake, and waited out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from nasplatform import faults

T = TypeVar("T")
PATIENCE = 900.0  # seconds for which work waits for its database
_PAUSES = (0.1, 5.0)  # seconds between two tries: the first, the longest
_PASSING = frozenset({"08", "40", "53", "57"})  # SQLSTATE classes: connection, conflict, resources,
# and the operator (restart, shut down, still starting)


class StorageAwayError(Exception):
    """The database did not answer; nobody knows whether the last change was made."""


def is_outage(error: BaseException | None) -> bool:
    """Return whether an error, or one that it comes from, may pass by itself."""
    while error is not None:
        if isinstance(error, StorageAwayError):
            return True
        if isinstance(error, DBAPIError):
            state = getattr(error.orig, "sqlstate", None)
            if error.connection_invalidated or (state or "")[:2] in _PASSING:
                return True
            return (
                state is None
                and type(error.orig).__module__.startswith("psycopg")
                and (
                    type(error.orig).__name__ == "OperationalError"  # no connection was made
                )
            )
        error = error.__cause__ or error.__context__
    return False


def was_cut(error: BaseException) -> bool:
    """Return whether a server that answers ended the connection: the next one may be whole."""
    return isinstance(error, DBAPIError) and (
        (getattr(error.orig, "sqlstate", None) or "").startswith("57")
    )


def said(error: Exception) -> str:
    """Return the first line of what a database or its driver says, without names of classes."""
    inner = getattr(error, "orig", None) or error
    words = faults.first_line(inner)
    return f"cannot be reached: {words}" if is_outage(error) else words


@contextmanager
def outages_named() -> Iterator[None]:
    """Raise StorageAwayError for whatever an outage raises within."""
    try:
        yield
    except DBAPIError as error:
        if is_outage(error):
            raise StorageAwayError(said(error)) from error
        raise


def patiently(call: Callable[[], T], patience: float | None = None) -> T:
    """Call until no outage hinders it; the last outage is raised after ``patience`` seconds.

    The call must be one that does no harm when it is made twice.
    """
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    pause = _PAUSES[0]
    while True:
        try:
            return call()
        except Exception as error:
            if not is_outage(error) or time.monotonic() >= until:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))  # not all at the same moment
        pause = min(2 * pause, _PAUSES[1])
