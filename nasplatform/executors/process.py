"""Measures in worker processes of this machine, and survives their death."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from nasplatform.evaluators.base import Evaluation, Report
from nasplatform.executors.base import EvaluationRequest, Executor, ExecutorContext
from nasplatform.executors.measure import failure
from nasplatform.executors.worker_process import WorkerLostError, WorkerProcess


class ProcessOptions(BaseModel):
    """How many processes, and what each of them may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(2, ge=1, description="processes that measure at once")
    threads: int = Field(1, ge=1, description="threads of each process")
    attempts: int = Field(
        3, ge=1, description="measurements begun of an architecture whose process dies each time"
    )
    timeout: float | None = Field(
        None, gt=0, description="seconds after which a measurement is killed; its result is that"
    )


@dataclass(frozen=True)
class _Job:
    request: EvaluationRequest
    report: Report | None
    future: Future[Evaluation]


class ProcessExecutor(Executor):
    """One thread for each worker process; it starts the process, speaks with it, and buries it.

    A request whose process dies (killed, out of memory, a crash in native code) is given to a new
    process; after ``attempts`` of them the architecture counts as failed. An interrupt from the
    keyboard reaches this process alone, which then closes the executor.
    """

    name: ClassVar[str] = "process"
    Options: ClassVar[type[ProcessOptions]] = ProcessOptions
    options: ProcessOptions

    def __init__(self, options: ProcessOptions, context: ExecutorContext | None = None) -> None:
        """Take the options; a process starts when there is work for it."""
        super().__init__(options, context)
        self.capacity = options.workers
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = threading.Event()
        self._workers = [WorkerProcess(options.threads) for _ in range(options.workers)]
        self._threads: list[threading.Thread] = []

    def submit(
        self, request: EvaluationRequest, report: Report | None = None
    ) -> Future[Evaluation]:
        """Hand a request to the next free worker."""
        if self._closed.is_set():
            raise RuntimeError("the executor is closed")
        job = _Job(request, report, Future())
        self._jobs.put(job)
        if len(self._threads) < self.capacity:
            worker = self._workers[len(self._threads)]
            thread = threading.Thread(target=self._serve, args=(worker,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return job.future

    def close(self) -> None:
        """Kill the workers; what was not finished is cancelled."""
        self._closed.set()
        for worker in self._workers:
            worker.close()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                cancel(job.future)

    def _serve(self, worker: WorkerProcess) -> None:
        while (job := self._jobs.get()) is not None:
            if self._closed.is_set():
                cancel(job.future)
            elif job.future.set_running_or_notifycancel():
                try:
                    job.future.set_result(self._measure(worker, job))
                except BaseException as error:  # whatever it is belongs to who waits
                    job.future.set_exception(error)
        worker.end()

    def _measure(self, worker: WorkerProcess, job: _Job) -> Evaluation:
        lost: WorkerLostError | None = None
        for _ in range(self.options.attempts):
            try:
                progress, timeout = self.context.progress, self.options.timeout
                return worker.measure(job.request, job.report, progress, timeout)
            except WorkerLostError as error:
                if self._closed.is_set():
                    raise CancelledError from None
                lost = error
                if not error.started:
                    return failure("fatal", f"the worker process does not start: {error}")
        times = f"{self.options.attempts} times" if self.options.attempts > 1 else "once"
        return failure("architecture", f"the worker process was lost {times}, the last: {lost}")


def cancel(future: Future[Evaluation]) -> None:
    """Cancel a future that nobody works on, and tell those who wait for it."""
    if future.cancel():
        future.set_running_or_notifycancel()
