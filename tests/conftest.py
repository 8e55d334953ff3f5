"""Fixtures that several packages' tests share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgresql
import pytest

from nasplatform import plugins

TOY = Path(__file__).parent / "toy"


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

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TOY), str(TOY / "installed")])
    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
