"""Worker processes: what becomes of them, and of a request whose worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from nasplatform.executors import EvaluationRequest, EvaluatorSpec
from nasplatform.executors.process import ProcessExecutor, ProcessOptions
from nasplatform.executors.worker_process import WorkerLostError, WorkerProcess

pytestmark = pytest.mark.usefixtures("toy")


def request(bits: str = "11010000", **options: Any) -> EvaluationRequest:
    spec = EvaluatorSpec(space={"name": "bits", "n": 8}, evaluator={"name": "bits", **options})
    return EvaluationRequest(spec=spec, architecture=bits, fidelity=1, seed=0)


@pytest.fixture
def make() -> Iterator[Callable[..., ProcessExecutor]]:
    made: list[ProcessExecutor] = []

    def make(**options: Any) -> ProcessExecutor:
        made.append(ProcessExecutor(ProcessOptions(**options)))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def pids(executor: ProcessExecutor) -> list[int]:
    return [w._process.pid for w in executor._workers if w._process is not None]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


def wait_for(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + 300
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def test_a_killed_worker_is_replaced_and_its_request_made_again(make: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    executor = make(workers=1)
    found = executor.submit(request(log=str(log), kill_after=1)).result(300)
    assert found.error is None
    assert log.read_text().split() == ["00001011"] * 2


def test_an_architecture_that_kills_every_worker_fails(make: Any, tmp_path: Path) -> None:
    executor = make(workers=1, attempts=2)
    lethal = request("11111111", lethal=("11111111",))
    found = executor.submit(lethal).result(300)
    assert found.error == "the worker process was lost 2 times, the last: killed by signal 9"
    assert found.error_class == "architecture"
    assert executor.submit(request()).result(300).error is None


def test_what_takes_too_long_is_killed(make: Any) -> None:
    executor = make(workers=1, timeout=0.5)
    found = executor.submit(request(seconds=600.0)).result(120)
    assert (found.error_class, found.error) == ("timeout", "took longer than 0.5 s, killed")
    assert executor.submit(request()).result(120).error is None


def test_a_worker_killed_from_outside_while_it_waits(make: Any) -> None:
    executor = make(workers=1)
    first = executor.submit(request()).result(300)
    os.kill(pids(executor)[0], signal.SIGKILL)
    assert executor.submit(request()).result(300) == first


def test_workers_work_at_the_same_time_and_keep_their_evaluator(make: Any, tmp_path: Path) -> None:
    executor = make(workers=2)
    slow = request(seconds=0.5)
    for future in [executor.submit(slow) for _ in range(2)]:
        future.result(300)  # both have started
    begun = time.monotonic()
    for future in [executor.submit(slow) for _ in range(4)]:
        assert future.result(300).error is None
    assert time.monotonic() - begun < 1.9  # one after the other it takes 2
    assert len(pids(executor)) == 2


def test_what_an_evaluator_prints_does_not_disturb(make: Any) -> None:
    executor = make(workers=1)
    assert executor.submit(request(says="{not an answer}\n")).result(300).error is None


def test_threads_are_bounded(make: Any) -> None:
    executor = make(workers=1, threads=1)
    executor.submit(request()).result(300)
    environment = Path(f"/proc/{pids(executor)[0]}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=1" in environment


def test_closing_kills_what_is_running_and_cancels_what_waits(make: Any, tmp_path: Path) -> None:
    executor = make(workers=1)
    executor.submit(request()).result(300)
    (pid,) = pids(executor)
    running, waiting = (executor.submit(request(seconds=60.0)) for _ in range(2))
    wait_for(running.running)
    begun = time.monotonic()
    executor.close()
    assert time.monotonic() - begun < 5
    for future in (running, waiting):
        with pytest.raises(CancelledError):
            future.result(5)
    assert not alive(pid)
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(request())


def test_a_future_that_waits_can_be_cancelled(make: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    executor = make(workers=1)
    running = executor.submit(request(seconds=0.3))
    wait_for(running.running)
    waiting = executor.submit(request(log=str(log)))
    assert waiting.cancel()
    assert executor.submit(request()).result(300).error is None
    assert not log.exists()


def test_a_worker_that_does_not_start_is_no_fault_of_the_architecture(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    found = make(workers=1).submit(request()).result(300)
    assert found.error_class == "fatal"
    assert "does not start: exit code 1" in str(found.error)


SCRIPT = """
import sys, time
from nasplatform.executors import EvaluationRequest
from nasplatform.executors.process import ProcessExecutor, ProcessOptions
from nasplatform.executors.worker_process import WorkerLostError, WorkerProcess

executor = ProcessExecutor(ProcessOptions(workers=1))
request = EvaluationRequest.model_validate_json(sys.argv[1])
future = executor.submit(request)
while not executor._workers[0]._process or not future.running():
    time.sleep(0.01)
print(executor._workers[0]._process.pid, flush=True)
try:
    future.result()
except KeyboardInterrupt:
    print("interrupted", future.running(), flush=True)
    executor.close()
    print("closed", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent_and_hear_no_interrupt(how: signal.Signals) -> None:
    command = [sys.executable, "-c", SCRIPT, request(seconds=300.0).model_dump_json()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)
        os.killpg(parent.pid, how)
        said = parent.communicate(timeout=30)[0]
    assert said == ("interrupted True\nclosed\n" if how == signal.SIGINT else "")
    wait_for(lambda: not alive(worker))


@pytest.mark.parametrize("printed", ["hello", "[1]", '{\\"kind\\": \\"other\\"}', "null"])
def test_a_worker_that_writes_something_else_is_lost_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f'print("{printed}")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkerLostError, match="where an answer was expected") as lost:
        WorkerProcess(1).measure(request(), None, lambda *_: None)
    assert not lost.value.started
