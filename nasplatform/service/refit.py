"""A new version from what is known by now, fitted by a process of its own.

The process is nicer than the service, cannot take it down, and writes the version into the store
like anybody else: ``python -m nasplatform.service.refit STORE NAME``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nasplatform import faults
from nasplatform.errors import NasplatformError, PredictorError
from nasplatform.predictors.fitting import fit_on_space
from nasplatform.service.labels import ReportedResults
from nasplatform.service.schemas import Refit
from nasplatform.service.store import PredictorStore, Version


def refit(store: PredictorStore, name: str) -> Version:
    """Fit the latest version's method to its labels and everything reported since; publish it."""
    base = store.find(name)
    predictor, space = store.load(base)
    labels = store.labels(base)
    if labels is None:
        raise PredictorError(f"{base.label} does not know its labels: publish it with labels")
    reported = ReportedResults(store.home(name)).read()
    used = _count(base.facts.origin.get("reported"))
    everything = labels.joined(reported.since(used))
    population, scores = everything.averaged(space)
    fresh = type(predictor)(predictor.options, seed=predictor.seed)
    fit_on_space(fresh, space, population, scores)
    origin = {"refit_of": base.label, "reported": len(reported)}
    return store.publish(name, fresh, space, everything, origin)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


class Refitter:
    """Runs refits, one at a time for each name; a wish during a refit is granted after it."""

    def __init__(self, store: Path, done: Callable[[str, str], None]) -> None:
        """Take the store's folder and whom to tell (name, outcome) when a refit ends."""
        self._store, self._done = store, done
        self._states: dict[str, Refit] = {}
        self._again: set[str] = set()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def state(self, name: str) -> Refit:
        """Return how the last refit of a name stands."""
        return self._states.get(name, Refit(state="none"))

    def start(self, name: str) -> Refit:
        """Begin a refit, or remember the wish while one is running."""
        with self._lock:
            if self._stopped:
                return self.state(name)
            if self.state(name).state == "running":
                self._again.add(name)
                return self.state(name)
            self._states[name] = Refit(state="running", started=time.time())
        threading.Thread(target=self._run, args=[name], name=f"refit {name}", daemon=True).start()
        return self._states[name]

    def stop(self) -> None:
        """End what runs; the store stays clean."""
        with self._lock:
            self._stopped = True
            self._again.clear()
            running = list(self._processes.values())
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)

    def _run(self, name: str) -> None:
        command = [sys.executable, "-m", "nasplatform.service.refit", str(self._store), name]
        command.append("attended")
        with self._lock:
            if self._stopped:
                return
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # its end says to the process that we are gone
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            except OSError as error:
                self._states[name] = _outcome(1, "", faults.short(error), time.time())
                return
            self._processes[name] = process
        out, err = _finished(process)
        state = _outcome(process.returncode, out, err, self._states[name].started)
        self._done(name, state.state)  # before the state says so: then the version answers already
        with self._lock:
            self._states[name] = state
            del self._processes[name]
            again = name in self._again
            self._again.discard(name)
        if again:
            self.start(name)


def _outcome(code: int, out: str, err: str, started: float | None) -> Refit:
    """Return how a refit ended; whatever plug-ins print stands before the last line."""
    now = time.time()
    try:
        version = int(json.loads(out.strip().splitlines()[-1])["version"]) if code == 0 else None
    except (ValueError, LookupError, TypeError):
        version = None
    if version is not None:
        return Refit(state="done", started=started, ended=now, version=version)
    words = (err.strip().splitlines() or [f"ended with code {code}"])[-1]
    return Refit(state="failed", started=started, ended=now, error=words[:500])


def _finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what a process wrote, its standard input held open until it ends."""
    held, process.stdin = process.stdin, None
    try:
        return process.communicate()
    finally:
        if held is not None:
            held.close()


def _end_with(pipe: int) -> None:
    """End this process at once when the service is gone: nobody publishes behind its back."""
    while os.read(pipe, 1):
        pass
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Refit NAME of STORE; print ``{"version": ...}``. ``attended``: end when stdin does."""
    import torch

    folder, name, *attended = arguments
    if attended:
        threading.Thread(target=_end_with, args=[sys.stdin.fileno()], daemon=True).start()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)
    torch.set_num_threads(1)
    try:
        version = refit(PredictorStore(folder), name)
    except NasplatformError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"version": version.number}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
