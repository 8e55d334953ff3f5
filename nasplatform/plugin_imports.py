"""The import of a plug-in: what a third party's module does to the process meanwhile is undone."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

_LONGEST = 240  # characters of what a module says


def said(error: BaseException) -> str:
    """Return what an exception says on one line, its kind where it is silent or fails at that."""
    try:
        words = _in_line(str(error))
    except BaseException:  # also the words are a third party's program
        words = ""
    return words or type(error).__name__


@contextmanager
def contained(what: str, module: str) -> Iterator[None]:
    """Import a module of others: keep the process as it was, and tell what it prints on stderr.

    Stdout belongs to the answers of commands, and a module that turns warnings into errors, lowers
    the depth of recursion or goes to another folder would let everything else fail.
    """
    if module.partition(".")[0] == "nasplatform":
        yield
        return
    depth, folder = sys.getrecursionlimit(), _folder()
    heard = _Heard()
    try:
        with redirect_stdout(heard), redirect_stderr(heard), warnings.catch_warnings():
            yield
    finally:
        sys.setrecursionlimit(max(depth, sys.getrecursionlimit()))
        if folder is not None and _folder() != folder:
            with suppress(OSError):
                os.chdir(folder)
        if words := _in_line(heard.getvalue()):
            sys.stderr.write(f"{what} says: {words}\n")


class _Heard(io.StringIO):
    """What a module prints; it cannot be closed by it."""

    def close(self) -> None:
        """Stay open."""


@contextmanager
def interrupts_told() -> Iterator[list[int]]:
    """Yield what fills with the signals that come meanwhile: a real Ctrl-C is nobody's fault."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        told.append(number)
        raise KeyboardInterrupt

    if not callable(before):
        yield told
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _in_line(text: str) -> str:
    words = " ".join(text[: 4 * _LONGEST].split())
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "..."
