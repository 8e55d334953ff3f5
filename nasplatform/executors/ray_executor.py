"""Measures as tasks of a Ray cluster: one machine, or as many as the cluster has."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from nasplatform.errors import ConfigError, MissingExtraError, RunError
from nasplatform.evaluators.base import Evaluation, Report
from nasplatform.executors.base import EvaluationRequest, Executor, ExecutorContext
from nasplatform.executors.measure import failure
from nasplatform.executors.process import cancel


class RayOptions(BaseModel):
    """Which cluster, how much of it, and what each measurement may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field(
        "auto",
        description="auto: the cluster that runs on this machine, or RAY_ADDRESS; local: one that "
        "is started for the search and ends with it; HOST:PORT or ray://HOST:PORT",
    )
    resources: dict[str, float] = Field(
        {"num_cpus": 1},
        description="of one measurement: num_cpus, num_gpus (may be a fraction), memory (bytes), "
        "or a resource of the cluster's own",
    )
    max_in_flight: int = Field(8, ge=1, description="measurements given to the cluster at once")
    attempts: int = Field(
        3, ge=1, description="measurements begun of an architecture whose worker is lost each time"
    )
    timeout: float | None = Field(
        None, gt=0, description="seconds after which a measurement is killed; its result is that"
    )
    runtime_env: dict[str, Any] = Field(
        {}, description="Ray's own: env_vars, pip, working_dir, ... of the workers"
    )


@dataclass
class _Job:
    number: int
    request: EvaluationRequest
    report: Report | None
    future: Future[Evaluation]
    attempt: int = 0
    ref: Any = None
    expires: threading.Timer | None = None
    outcome: Evaluation | BaseException | None = None  # what ends it, whatever the task answers


class RayExecutor(Executor):
    """Gives Ray names and JSON, and keeps all that decides anything on this side.

    Ray is not asked to try anything again: a task whose worker or node died is given to it anew
    here, and after ``attempts`` of them the architecture counts as failed. A cluster that was
    there before is never shut down.
    """

    name: ClassVar[str] = "ray"
    Options: ClassVar[type[RayOptions]] = RayOptions
    options: RayOptions

    def __init__(self, options: RayOptions, context: ExecutorContext | None = None) -> None:
        """Take the options; raise MissingExtraError without Ray. It begins with the first task."""
        super().__init__(options, context)
        try:
            import ray
        except ImportError:
            raise MissingExtraError(
                "executor 'ray' needs a package that is not installed: "
                "pip install 'nasplatform[ray]'"
            ) from None
        self.capacity = options.max_in_flight
        self._ray = ray
        self._connected_here = False
        self._lock = threading.RLock()
        self._waiting: deque[_Job] = deque()
        self._running: dict[int, _Job] = {}
        self._count = 0
        self._closed = False
        self._task: Any = None
        self._work: Any = None
        self._mailbox: Any = None
        self._listener: threading.Thread | None = None

    def submit(
        self, request: EvaluationRequest, report: Report | None = None
    ) -> Future[Evaluation]:
        """Give a request to the cluster, as soon as fewer than ``max_in_flight`` are there."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            if self._task is None:
                self._connect()
            self._count += 1
            job = _Job(self._count, request, report, Future())
            self._waiting.append(job)
            self._fill()
        return job.future

    def call(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Have other work than a measurement done by one task of the same resources."""
        with self._lock:
            if self._task is None:
                self._connect()
            self._count += 1
            number = self._count
        ray, lost = self._ray, ""
        for attempt in range(1, self.options.attempts + 1):
            key = (number, attempt)
            ref = self._work.remote(function, json.dumps(payload), self._mailbox, key)
            try:
                found: dict[str, Any] = json.loads(ray.get(ref))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                lost = _first_line(error)
            except BaseException:
                ray.cancel(ref, force=True)
                raise
            else:
                return found
        raise RunError(f"{function}: its worker was lost {attempt} times, the last: {lost}")

    def close(self) -> None:
        """Cancel what is not finished; leave the cluster, and end it where it was started here."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            running, self._running = list(self._running.values()), {}
        for job in waiting:
            cancel(job.future)
        for job in running:
            self._ray.cancel(job.ref, force=True)
            self._end(job, None)
        if self._mailbox is not None:
            self._tell_the_rest(self._mailbox)
            self._ray.kill(self._mailbox)
            self._mailbox = None
        if self._listener is not None:
            self._listener.join()
            self._listener = None
        if self._connected_here:
            self._ray.shutdown()
            self._connected_here = False

    def _connect(self) -> None:
        from nasplatform.executors.ray_task import Mailbox, call_as_task, measure_as_task

        ray, options = self._ray, self.options
        if not ray.is_initialized():
            _initialize(ray, options.address)
            self._connected_here = True
        asked = dict(options.resources)
        known = {name: asked.pop(name) for name in _KNOWN if name in asked}
        if "memory" in known:
            known["memory"] = int(known["memory"])
        more = {"runtime_env": options.runtime_env} if options.runtime_env else {}
        _require_resources(ray, options.resources)
        how = {"max_retries": 0, "resources": asked, **known, **more}
        self._task = ray.remote(measure_as_task).options(**how)
        self._work = ray.remote(call_as_task).options(**how)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._listener = threading.Thread(target=self._listen, args=(self._mailbox,), daemon=True)
        self._listener.start()

    def _fill(self) -> None:
        """Start what waits while there is room; the lock is held."""
        while self._waiting and len(self._running) < self.capacity:
            job = self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                self._running[job.number] = job
                self._start(job)

    def _start(self, job: _Job) -> None:
        job.attempt += 1
        reports = job.report is not None
        key = (job.number, job.attempt)
        timed = self.options.timeout is not None
        request = job.request.model_dump_json()
        job.ref = self._task.remote(request, self._mailbox, key, reports, timed)
        job.ref.future().add_done_callback(lambda answer: self._land(job, answer))

    def _land(self, job: _Job, answer: Future[str]) -> None:
        """Take the answer to a task, on a thread of Ray's."""
        if job.expires is not None:
            job.expires.cancel()
        with self._lock:
            if self._closed or job.number not in self._running:
                return
            found = job.outcome or self._outcome(job, answer.exception(), answer)
            if found is None:
                self._start(job)  # its worker was lost
                return
            del self._running[job.number]
            self._fill()
        self._end(job, found)

    def _outcome(
        self, job: _Job, error: BaseException | None, answer: Future[str]
    ) -> Evaluation | BaseException | None:
        """Return what a task came to; None where it is to be started again."""
        ray = self._ray.exceptions
        if error is None:
            return Evaluation(**json.loads(answer.result()))
        if isinstance(error, ray.OutOfMemoryError):
            return failure("memory", "out of memory on its node")
        words = _first_line(error)
        if isinstance(error, ray.RayTaskError | ray.RuntimeEnvSetupError):
            return failure("fatal", f"Ray could not run it: {words}", str(error))
        if job.attempt < self.options.attempts:
            return None
        times = f"{job.attempt} times" if job.attempt > 1 else "once"
        return failure("architecture", f"its worker was lost {times}, the last: {words}")

    def _end(self, job: _Job, found: Evaluation | BaseException | None) -> None:
        if isinstance(found, Evaluation):
            job.future.set_result(found)
        elif found is not None:
            job.future.set_exception(found)
        else:
            job.future.set_exception(CancelledError())

    def _listen(self, mailbox: Any) -> None:
        """Hear of the tasks, until the mailbox is closed."""
        while not self._closed:
            try:
                messages = self._ray.get(mailbox.take.remote())
            except Exception:  # it was killed, or its node was
                return
            for kind, (number, attempt), values in messages:
                job = self._running.get(number)
                if kind == "progress":
                    self.context.progress(*values)
                elif job is not None and job.attempt == attempt:
                    self._hear(job, kind, values)

    def _hear(self, job: _Job, kind: Literal["started", "report"], values: Any) -> None:
        if kind == "started" and self.options.timeout is not None:
            job.expires = threading.Timer(self.options.timeout, self._expire, (job, job.attempt))
            job.expires.daemon = True
            job.expires.start()
        elif kind == "report" and job.report is not None:
            try:
                stop = job.report(*values)
            except BaseException as error:  # the report's own, for who waits
                job.outcome = error
                stop = True
            self._mailbox.answer.remote((job.number, job.attempt), stop)

    def _tell_the_rest(self, mailbox: Any) -> None:
        with suppress(Exception):  # its node may be gone
            for kind, _, values in self._ray.get(mailbox.rest.remote(), timeout=_PATIENCE):
                if kind == "progress":
                    self.context.progress(*values)

    def _expire(self, job: _Job, attempt: int) -> None:
        with self._lock:
            if job.number not in self._running or job.attempt != attempt:
                return
            words = f"took longer than {self.options.timeout:g} s, killed"
            job.outcome = failure("timeout", words)
        self._ray.cancel(job.ref, force=True)


_KNOWN = ("num_cpus", "num_gpus", "memory")
_PATIENCE = 5.0  # seconds, for the last words of a cluster that may be gone


def _initialize(ray: Any, address: str) -> None:
    """Connect to a cluster or start one; raise ConfigError where there is none."""
    import logging

    quiet = {"include_dashboard": False} if address == "local" else {"address": address}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), _PATIENCE).close()
        ray.init(**quiet, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"executor 'ray': no cluster at {address!r} ({_first_line(error)}); start one with "
            f"`ray start --head`, or take address: local"
        ) from None


def _require_resources(ray: Any, asked: dict[str, float]) -> None:
    """Raise ConfigError for what no node has: such a task would wait for ever."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, amount in asked.items():
        most = max((node.get(names.get(name, name), 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise ConfigError(
                f"executor 'ray': resources.{name} is {amount:g}, the largest node of the cluster "
                f"has {most:g}"
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
