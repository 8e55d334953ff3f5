"""Fixtures that several packages' tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

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
