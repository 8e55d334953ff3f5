"""What runs inside a Ray cluster: a task that measures, and one that calls a function."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from importlib import import_module
from typing import Any

from nasplatform.evaluators.base import Evaluator
from nasplatform.executors.base import EvaluationRequest
from nasplatform.executors.measure import measure
from nasplatform.mailbox import Key

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
    _IN_WORK[:] = [progress]
    found = measure(wanted, _MADE, report if reports else None, _tell)
    if progress.last is not None:
        ray.get(progress.last)
    return json.dumps(asdict(found))


def call_as_task(function: str, payload: str, mailbox: Any, key: Key) -> str:
    """Call ``module:function`` with a payload, JSON; return what it returns, JSON."""
    module, _, name = function.partition(":")
    words = _Progress(mailbox, key)
    return json.dumps(getattr(import_module(module), name)(json.loads(payload), words))


def _tell(done: int, total: int, words: str) -> None:
    """Tell how far the task in work is: evaluators outlive the task that made them."""
    _IN_WORK[0](done, total, words)


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


_IN_WORK: list[_Progress] = []  # of the one task that this worker process works on
