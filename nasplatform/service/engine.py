"""One thread that infers: dynamic batches, a bounded queue, and long work in between.

Requests wait in a queue. The thread takes as many of them as fit into a batch, of one model at a
time, and scores them together, which takes little longer than to score one. Clients who ask again
and again come back together: a batch waits a moment for as many as there were the last time. A
lone request waits for nobody. A large request is served in parts, between which the others have
their turn. While nobody waits, the thread builds rankings of whole spaces in short steps.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from nasplatform.errors import NotReadyError
from nasplatform.service.models import Model, PredictionInput, PredictionOutput, log
from nasplatform.service.settings import Settings


class QueueFullError(Exception):
    """More waits than the queue holds; ``retry_after`` seconds will have emptied it."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class BatchStats(NamedTuple):
    """One inference: architectures, requests, those from the cache, seconds, and what waits."""

    size: int
    requests: int
    cached: int
    seconds: float
    waiting: int


@dataclass(eq=False)
class _Job:
    model: Model
    texts: PredictionInput
    hashes: bool
    ranks: bool
    deadline: float
    future: asyncio.Future[PredictionOutput]
    taken: int = 0
    parts: list[PredictionOutput] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How much of it still waits."""
        return len(self.texts) - self.taken

    @property
    def kind(self) -> tuple[int, bool, bool, bool]:
        """Jobs of one kind are answered together."""
        return id(self.model), self.hashes, self.ranks, isinstance(self.texts, list)


_PAUSE = 0.001  # seconds without a request after which no more are expected
_Part = tuple[_Job, int, int]
_Step = Callable[[], bool]


class Engine:
    """Life cycle: ``start``, any number of ``submit``, ``stop`` (which answers what waits)."""

    def __init__(
        self, settings: Settings, observe: Callable[[BatchStats], None] = lambda facts: None
    ) -> None:
        self._settings, self._observe = settings, observe
        self._queue: deque[_Job] = deque()
        self._chores: deque[_Step] = deque()
        self._waiting = 0  # architectures
        self._expected = 1  # requests that were there the last time
        self._pace = 20_000.0  # architectures a second, a running mean
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)

    @property
    def waiting(self) -> int:
        """Architectures that wait or are being scored."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end."""
        with self._wake:
            self._stopped = True
            self._chores.clear()
            self._wake.notify()
        self._thread.join(timeout=60)

    def submit(
        self, model: Model, texts: PredictionInput, hashes: bool = True, ranks: bool = True
    ) -> asyncio.Future[PredictionOutput]:
        """Queue texts, or codes, for a model; to be called, and awaited, in an event loop.

        Raises QueueFullError at once where too many wait; the future raises TimeoutError where
        the answer would have come too late.
        """
        future: asyncio.Future[PredictionOutput] = asyncio.get_running_loop().create_future()
        deadline = time.monotonic() + self._settings.timeout
        job = _Job(model, texts, hashes, ranks, deadline, future)
        with self._wake:
            # A request larger than the queue is let in when it is alone.
            if self._waiting and self._waiting + len(texts) > self._settings.max_queue:
                raise QueueFullError(max(1, math.ceil(self._waiting / self._pace)))
            self._waiting += len(texts)
            self._queue.append(job)
            if len(self._queue) == 1 or len(self._queue) >= self._expected:
                self._wake.notify()
        return future

    def when_idle(self, step: _Step) -> None:
        """Call ``step`` again and again while nobody waits, until it returns False."""
        with self._wake:
            self._chores.append(step)
            self._wake.notify()

    def _work(self) -> None:
        torch.set_num_threads(self._settings.torch_threads)
        with threadpool_limits(self._settings.torch_threads), torch.inference_mode():
            while True:
                with self._wake:
                    while not (self._queue or self._chores or self._stopped):
                        self._wake.wait()
                    if self._stopped and not self._queue:
                        return
                    chore = self._chores[0] if self._chores and not self._queue else None
                if chore is not None:
                    self._do(chore)
                    continue
                self._gather()
                parts = self._take()
                if parts:
                    self._answer(parts)

    def _gather(self) -> None:
        """Wait for the requests that are expected, as long as they keep coming."""
        until = time.monotonic() + self._settings.max_wait
        with self._wake:
            before = 0
            while before < len(self._queue) < self._expected and time.monotonic() < until:
                before = len(self._queue)
                self._wake.wait(_PAUSE)

    def _do(self, chore: _Step) -> None:
        try:
            more = chore()
        except Exception:  # a broken chore must not end the service
            log.exception("background work failed")
            more = False
        with self._wake:
            if self._chores and self._chores[0] is chore:
                self._chores.popleft()
                if more:
                    self._chores.append(chore)

    def _take(self) -> list[_Part]:
        """Take requests for one model, at most ``max_batch`` architectures together.

        Only a request larger than a batch is cut, and only where it is the first: the rest of it
        goes behind the others. Whatever does not fit waits in its place, so that it comes first
        one day; a rest that always filled up the batch of another would wait for ever.
        """
        parts: list[_Part] = []
        later: list[_Job] = []
        room, now = self._settings.max_batch, time.monotonic()
        with self._wake:
            while self._queue and room:
                job = self._queue.popleft()
                if job.future.cancelled() or now > job.deadline:
                    self._waiting -= job.left
                    _tell(job, TimeoutError())
                elif parts and (job.kind != parts[0][0].kind or job.left > room):
                    later.append(job)  # in its place: the next batch begins with it
                else:
                    start, stop = job.taken, min(job.taken + room, len(job.texts))
                    parts.append((job, start, stop))
                    room -= stop - start
                    job.taken = stop
                    if stop < len(job.texts):
                        self._queue.append(job)  # behind the others
            self._queue.extendleft(reversed(later))
        return parts

    def _answer(self, parts: list[_Part]) -> None:
        first = parts[0][0]
        texts = _together([job.texts[start:stop] for job, start, stop in parts])
        before = time.perf_counter()
        try:
            answers, cached = first.model.answer(texts, first.hashes, first.ranks)
        except Exception as error:
            self._failed(parts, error)
            return
        finally:
            seconds = time.perf_counter() - before
        self._waiting_less(len(texts))
        self._pace += 0.05 * (len(texts) / max(seconds, 1e-6) - self._pace)
        at = 0
        finished = []
        for job, start, stop in parts:
            job.parts.append(_slice(answers, at, at + stop - start))
            at += stop - start
            if stop == len(job.texts):
                finished.append(job)
        self._expected = len(parts) + len(self._queue)
        self._observe(BatchStats(len(texts), len(parts), cached, seconds, self._waiting))
        _tell_all(finished)

    def _failed(self, parts: list[_Part], error: Exception) -> None:
        """Whatever one request makes a predictor or a space raise concerns it alone."""
        if len(parts) > 1:
            for part in parts:
                self._answer([part])
            return
        if not isinstance(error, NotReadyError):
            log.error("inference failed", exc_info=error)
        [(job, start, stop)] = parts
        self._forget(job, start, stop)
        _tell(job, error)

    def _forget(self, job: _Job, start: int, stop: int) -> None:
        """Drop a request that failed, with the part of it that still waits."""
        with self._wake:
            self._waiting -= stop - start
            if job in self._queue:
                self._queue.remove(job)
                self._waiting -= job.left

    def _waiting_less(self, count: int) -> None:
        with self._wake:
            self._waiting -= count


def _together(parts: list[PredictionInput]) -> PredictionInput:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [text for part in parts for text in part]


def _slice(answers: PredictionOutput, start: int, stop: int) -> PredictionOutput:
    rank, names = answers.rank, answers.hash
    return PredictionOutput(
        answers.mean[start:stop],
        answers.std[start:stop],
        answers.params[start:stop],
        answers.flops[start:stop],
        None if rank is None else rank[start:stop],
        None if names is None else names[start:stop],
        {i - start: error for i, error in answers.errors.items() if start <= i < stop},
    )


def _joined(parts: list[PredictionOutput]) -> PredictionOutput:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.mean) for part in parts)]).tolist()
    ranks = [part.rank for part in parts if part.rank is not None]
    names = [part.hash for part in parts if part.hash is not None]
    return PredictionOutput(
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.std for part in parts]),
        np.concatenate([part.params for part in parts]),
        np.concatenate([part.flops for part in parts]),
        # A ranking that was finished between two parts ranks only the later ones: leave it out.
        np.concatenate(ranks) if len(ranks) == len(parts) else None,
        np.concatenate(names) if len(names) == len(parts) else None,
        {at + i: e for at, p in zip(starts, parts, strict=False) for i, e in p.errors.items()},
    )


def _tell_all(jobs: list[_Job]) -> None:
    """Hand answers over to the event loops, one call for each loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        loops.setdefault(job.future.get_loop(), []).append(job)
    for loop, mine in loops.items():
        _call(loop, partial(_set_results, [(job.future, _joined(job.parts)) for job in mine]))


def _set_results(results: list[tuple[asyncio.Future[PredictionOutput], PredictionOutput]]) -> None:
    for future, answers in results:
        if not future.done():
            future.set_result(answers)


def _tell(job: _Job, error: Exception) -> None:
    future = job.future
    _call(future.get_loop(), lambda: None if future.done() else future.set_exception(error))


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
