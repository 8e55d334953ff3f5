"""A log that nobody waits for: where its reader has stopped, lines are lost and counted."""

from __future__ import annotations

import logging
import os
import select


class UnhurriedHandler(logging.Handler):
    """Writes lines to a descriptor as long as that takes no time.

    A pipe whose reader stands still is full after some hundred requests; to wait for it would stop
    the event loop, and everybody with it.
    """

    def __init__(self, descriptor: int) -> None:
        """Take the descriptor, which others may share."""
        super().__init__()
        self._descriptor, self._lost = descriptor, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, after the number of those that were lost before it."""
        try:
            if self._lost and self._written(self._told()):
                self._lost = 0
            self._lost += not self._written(self.format(record))
        except Exception:
            self.handleError(record)

    def _told(self) -> str:
        words = {"levelname": "WARNING", "msg": "lines of the log lost"}
        told = logging.makeLogRecord({**words, "facts": {"lines": self._lost}})
        return "\n" + self.format(told)  # the last line before may be half a one

    def _written(self, line: str) -> bool:
        data = (line + "\n").encode(errors="backslashreplace")
        for begin in range(0, len(data), select.PIPE_BUF):  # so much fits where there is room
            if not select.select([], [self._descriptor], [], 0)[1]:
                return False
            os.write(self._descriptor, data[begin : begin + select.PIPE_BUF])
        return True
