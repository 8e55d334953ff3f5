"""Ray clusters: what becomes of lost workers and nodes, of time limits, and of foreign clusters."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nasplatform.errors import ConfigError, MissingExtraError
from nasplatform.executors import EvaluationRequest, EvaluatorSpec
from nasplatform.executors.ray_executor import RayExecutor, RayOptions

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("toy", "ray_cluster")]


def request(bits: str = "11010000", **options: Any) -> EvaluationRequest:
    spec = EvaluatorSpec(space={"name": "bits", "n": 8}, evaluator={"name": "bits", **options})
    return EvaluationRequest(spec=spec, architecture=bits, fidelity=1, seed=0)


@pytest.fixture
def make() -> Iterator[Callable[..., RayExecutor]]:
    made: list[RayExecutor] = []

    def make(**options: Any) -> RayExecutor:
        made.append(RayExecutor(RayOptions(**options)))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def test_a_lost_worker_is_replaced_and_a_lethal_architecture_fails(
    make: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    executor = make(attempts=2)
    once = executor.submit(request(log=str(log), kill_after=1))
    always = executor.submit(request("11111111", lethal=("11111111",)))
    assert once.result(120).error is None
    assert log.read_text().split() == ["00001011"] * 2
    found = always.result(120)
    assert found.error_class == "architecture"
    assert "its worker was lost 2 times" in str(found.error)


def test_what_takes_too_long_is_killed(make: Any) -> None:
    executor = make(timeout=0.5)
    found = executor.submit(request(seconds=600.0)).result(120)
    assert (found.error_class, found.error) == ("timeout", "took longer than 0.5 s, killed")
    assert executor.submit(request()).result(120).error is None


def test_more_than_may_be_in_flight_waits_here_and_can_be_cancelled(
    make: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    executor = make(max_in_flight=1)
    running = executor.submit(request(seconds=0.5))
    waiting, last = executor.submit(request(log=str(log))), executor.submit(request())
    assert waiting.cancel()
    assert running.result(120).error is last.result(120).error is None
    assert not log.exists()


@pytest.mark.slow
def test_the_work_of_a_node_that_is_removed_is_done_elsewhere(
    make: Any, ray_cluster: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    node = ray_cluster.add_node(num_cpus=1, resources={"spot": 1})
    executor = make(resources={"num_cpus": 1, "spot": 1}, max_in_flight=1)
    future = executor.submit(request(log=str(log), seconds=3.0))
    time.sleep(1.0)
    other = ray_cluster.add_node(num_cpus=1, resources={"spot": 1})
    ray_cluster.remove_node(node, allow_graceful=False)
    try:
        assert future.result(180).error is None
        assert len(log.read_text().split()) == 1
    finally:
        ray_cluster.remove_node(other)


def test_what_no_node_has_is_refused_at_once(make: Any) -> None:
    for name, words in (("num_gpus", "has 0"), ("tpu", "has 0"), ("num_cpus", "has 2")):
        with pytest.raises(ConfigError, match=rf"resources.{name} is 64, .* {words}"):
            make(resources={name: 64}).submit(request())


def test_a_cluster_that_was_there_before_is_left_alone(make: Any) -> None:
    import ray

    executor = make()
    executor.submit(request()).result(120)
    executor.close()
    assert ray.is_initialized()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(request())


def test_without_the_package_a_line_says_what_to_install(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasplatform\[ray\]'"):
        make()


def test_without_a_cluster_a_line_says_how_to_start_one() -> None:
    """In a process of its own: this one has a cluster."""
    code = "import sys, ray; from nasplatform.executors.ray_executor import _initialize\n"
    code += "_initialize(ray, sys.argv[1])"
    command = [sys.executable, "-c", code, "127.0.0.1:1"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120)
    last = made.stderr.splitlines()[-1]
    assert "no cluster at '127.0.0.1:1'" in last
    assert "ray start --head" in last
