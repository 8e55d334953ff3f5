"""What takes long to make, once in a process: waited for, or made while others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from nasplatform import faults
from nasplatform.errors import NotReadyError

T = TypeVar("T")
_THREAD = threading.local()


@contextmanager
def nobody_waits() -> Iterator[None]:
    """In this block, and thread, NotReadyError is raised for what would have to be waited for."""
    before = getattr(_THREAD, "hurried", False)
    _THREAD.hurried = True
    try:
        yield
    finally:
        _THREAD.hurried = before


class Prepared(Generic[T]):
    """A value that ``make`` makes at the first ``get``; ``what`` names it."""

    def __init__(self, what: str, make: Callable[[], T]) -> None:
        self._what, self._make = what, make
        self._made: T | None = None
        self._why = ""  # it could not be made
        self._lock = threading.Lock()  # of several threads one makes it, the others wait
        self._maker: threading.Thread | None = None

    def get(self) -> T:
        """Return the value; where nobody waits, NotReadyError while a thread makes it."""
        if self._made is not None:
            return self._made
        if getattr(_THREAD, "hurried", False):
            self._begin()
            raise NotReadyError(f"{self._what} is being made{self._why}: ask again in a moment")
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return self._made

    def _begin(self) -> None:
        if self._maker is None or not self._maker.is_alive():
            self._maker = threading.Thread(target=self._try, name=self._what, daemon=True)
            self._maker.start()

    def _try(self) -> None:
        try:
            self.get()
        except Exception as error:  # whoever asks next is told, and it is tried again
            self._why = f" anew after a failure ({faults.short(error)})"
