"""What runs inside a Ray cluster: a task that measures, and an actor that passes words on."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from importlib import import_module
from typing import Any

from nasplatform.evaluators.base import Evaluator
from nasplatform.executors.base import EvaluationRequest
from nasplatform.executors.measure import measure

Key = tuple[int, int]
"""Number of a job, and which attempt of it."""

_BETWEEN = 0.5  # seconds between two words on the progress of a task
_MADE: dict[str, Evaluator[Any]] = {}  # of this worker process, kept from task to task


def measure_as_task(request: str, mailbox: Any, key: Key, reports: bool, timed: bool) -> str:
    """Work on a request, JSON; return the evaluation, JSON.

    mailbox: handle of a ``Mailbox``, which hears of it on the way.
    reports: whether somebody wants to hear of each epoch, and may stop the measurement.
    timed:   whether somebody wants to know when it begins.
    """
    import ray

    if timed:
        mailbox.tell.remote("started", key, ())
    progress = _Progress(mailbox, key)

    def report(epochs: int, score: float) -> bool:
        return bool(ray.get(mailbox.ask.remote(key, (epochs, score))))

    wanted = EvaluationRequest.model_validate_json(request)
    found = measure(wanted, _MADE, report if reports else None, progress)
    if progress.last is not None:
        ray.get(progress.last)
    return json.dumps(asdict(found))


def call_as_task(function: str, payload: str, mailbox: Any, key: Key) -> str:
    """Call ``module:function`` with a payload, JSON; return what it returns, JSON."""
    module, _, name = function.partition(":")
    words = _Progress(mailbox, key)
    return json.dumps(getattr(import_module(module), name)(json.loads(payload), words))


class _Progress:
    """Tells the mailbox how far a task is, not too often."""

    def __init__(self, mailbox: Any, key: Key) -> None:
        self.last: Any = None  # of the words told, to wait for
        self._mailbox = mailbox
        self._key = key
        self._next = 0.0

    def __call__(self, done: int, total: int, words: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _BETWEEN
            self.last = self._mailbox.tell.remote("progress", self._key, (done, total, words))


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
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
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
