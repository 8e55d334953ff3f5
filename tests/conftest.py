"""Fixtures that several packages' tests share."""

import logging
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgresql
import pytest

from nasplatform import plugins

TOY = Path(__file__).parent / "toy"


def pytest_configure() -> None:
    """Hear interrupts, as the tests of them must, where a shell's background had them ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def moderate() -> Iterator[None]:
    """A test with it ends in seconds of CPU, and takes no half of a gigabyte."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - begun < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a third party's plug-ins: space and evaluator ``bits``, predictor ``ridge``.

    Processes that the test starts see them too.
    """
    installed = TOY / "installed"  # its entry points, away from the modules that others import
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TOY), str(installed)]))
    plugins._entries.cache_clear()
    yield TOY
    monkeypatch.undo()
    plugins._entries.cache_clear()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """One real server for all tests of a process; each takes a database of its own."""
    with postgresql.server() as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """One real Ray cluster of this machine for all tests of a process; it knows the toy plug-ins.

    Tests that need nodes of their own add them to ``ray_cluster`` and take them away.
    """
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:  # what the nodes and their workers begin with
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TOY), str(TOY / "installed")]))
        patch.setenv("RAY_worker_niceness", "0")  # by default they wait for everybody else
        cluster = Cluster()
        for tries_left in (2, 1, 0):  # a busy machine may need longer than Ray gives a node
            try:
                cluster.add_node(**node)
                break
            except Exception:
                if not tries_left:
                    raise
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
