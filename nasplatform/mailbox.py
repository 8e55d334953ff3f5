"""An actor of a Ray cluster that passes words on between tasks and driver.

It stands apart from the executors, so that the process it lives in need not import them.
"""

from __future__ import annotations

import asyncio
from typing import Any

Key = tuple[int, int]
"""Number of a job, and which attempt of it."""


class Mailbox:
    """Passes messages of tasks on to the driver, and its answers back."""

    def __init__(self) -> None:
        """Begin empty."""
        self._messages: asyncio.Queue[tuple[str, Key, tuple[Any, ...]]] = asyncio.Queue()
        self._answers: dict[Key, asyncio.Future[bool]] = {}

    async def tell(self, kind: str, key: Key, values: tuple[Any, ...]) -> None:
        """Leave a message."""
        self._messages.put_nowait((kind, key, values))

    async def ask(self, key: Key, values: tuple[Any, ...]) -> bool:
        """Leave a report; return, when the driver has said so, whether to stop."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[key] = answer
        self._messages.put_nowait(("report", key, values))
        return await answer

    async def answer(self, key: Key, stop: bool) -> None:
        """Answer the report of a task."""
        answer = self._answers.pop(key, None)
        if answer is not None and not answer.done():
            answer.set_result(stop)

    async def take(self) -> list[tuple[str, Key, tuple[Any, ...]]]:
        """Return the messages that have come, at least one."""
        return [await self._messages.get(), *await self.rest()]

    async def rest(self) -> list[tuple[str, Key, tuple[Any, ...]]]:
        """Return the messages that nobody has taken."""
        return [self._messages.get_nowait() for _ in range(self._messages.qsize())]
