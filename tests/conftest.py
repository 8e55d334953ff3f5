"""Fixtures that several packages' tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nasplatform import plugins

TOY = Path(__file__).parent / "toy"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a third party's plug-ins: space and evaluator ``bits``, predictor ``ridge``.

    Processes that the test starts see them too.
    """
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv("PYTHONPATH", str(TOY))
    plugins._entries.cache_clear()
    yield TOY
    monkeypatch.undo()
    plugins._entries.cache_clear()
