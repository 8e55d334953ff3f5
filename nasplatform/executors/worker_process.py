"""The near end of a worker process: start it, ask it, notice its death."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nasplatform.evaluators.base import Evaluation, Report
from nasplatform.executors.base import EvaluationRequest
from nasplatform.executors.measure import failure

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_KINDS = ("ready", "progress", "report", "result")


class WorkerLostError(Exception):
    """The process ended without an answer.

    started: whether it had come so far as to take requests.
    """

    def __init__(self, words: str, started: bool) -> None:
        super().__init__(words)
        self.started = started


class WorkerProcess:
    """One process after the other, each made when a request finds none.

    A fresh interpreter, not a fork or a copy of the caller's ``__main__``: it may be used from a
    notebook, a script or a thread. It is in a session of its own, where no Ctrl-C reaches it.
    """

    def __init__(self, threads: int) -> None:
        """Take the number of threads that the process may use."""
        self._threads = threads
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def measure(
        self,
        request: EvaluationRequest,
        report: Report | None,
        progress: Callable[[int, int, str], None],
        timeout: float | None = None,
    ) -> Evaluation:
        """Have a request worked on; raise WorkerLostError where the process dies of it.

        timeout: seconds after which it is killed; the evaluation says so.
        """
        process = self._process or self._start()
        expired = threading.Event()
        timer = threading.Timer(timeout or 0.0, lambda: (expired.set(), process.kill()))
        if timeout is not None:
            timer.start()
        try:
            return self._measure(process, request, report, progress)
        except WorkerLostError:
            if timeout is None or not expired.is_set():
                raise
            return failure("timeout", f"took longer than {timeout:g} s, killed")
        finally:
            timer.cancel()

    def _measure(
        self,
        process: subprocess.Popen[str],
        request: EvaluationRequest,
        report: Report | None,
        progress: Callable[[int, int, str], None],
    ) -> Evaluation:
        job = {"request": request.model_dump(mode="json"), "reports": report is not None}
        try:
            self._tell(process, job)
            while True:
                said = self._hear(process)
                if said["kind"] == "result":
                    return Evaluation(**said["evaluation"])
                if said["kind"] == "progress":
                    progress(*said["step"])
                elif report is not None:
                    self._tell(process, {"stop": report(said["epochs"], said["score"])})
        except BaseException:  # it died, or it is left in the middle of a measurement
            self.end()
            raise

    def end(self) -> None:
        """Kill the process and bury it; the next request starts another."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was written to the dead
                    stream.close()

    def close(self) -> None:
        """Kill the process, and start no other."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()

    def _start(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise WorkerLostError("closed", started=False)
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "nasplatform.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={
                    **os.environ,
                    **dict.fromkeys(_THREADS, str(self._threads)),
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
                start_new_session=True,
            )
        try:
            self._hear(process)
        except WorkerLostError as error:
            self.end()
            raise WorkerLostError(str(error), started=False) from None
        return process

    def _tell(self, process: subprocess.Popen[str], values: dict[str, Any]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(values) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            raise self._lost(process) from None

    def _hear(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith("\n"):
            raise self._lost(process)
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict) or said.get("kind") not in _KINDS:
            words = f"it wrote {line[:60].strip()!r} where an answer was expected"
            raise self._lost(process, words)  # a start-up file of Python's that prints
        return said

    def _lost(self, process: subprocess.Popen[str], words: str | None = None) -> WorkerLostError:
        process.kill()
        code = process.wait()
        died = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerLostError(words or died, started=True)
