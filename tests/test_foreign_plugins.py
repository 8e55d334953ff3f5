"""Plug-ins that end the program, clash, or are something else: reported, and the others work."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from nasplatform import plugins
from nasplatform.catalogue import catalogue
from nasplatform.errors import PluginError

MODULES = {
    "exits": "import sys\nsys.exit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "generates": "raise GeneratorExit",
    "recurses": "def f(): f()\nf()",
    "number": "thing = 5",
    "good": "class thing: pass",
    "twin": "class thing: pass",
}


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Register a module of each kind among the stages, and two of one name."""
    for name, text in MODULES.items():
        (tmp_path / f"stranger_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    group = "nasplatform.stages"
    found = [EntryPoint(name, f"stranger_{name}:thing", group) for name in MODULES]
    found += [EntryPoint("two", f"stranger_{name}:thing", group) for name in ("good", "twin")]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: found if group == "nasplatform.stages" else []
    )
    plugins._entries.cache_clear()
    yield
    monkeypatch.undo()
    plugins._entries.cache_clear()
    for name in MODULES:
        sys.modules.pop(f"stranger_{name}", None)


def test_bad_plugins_are_reported_and_the_others_work(strangers):
    with pytest.warns(UserWarning, match="is broken|are called"):
        assert set(plugins.working("stages")) == {"good", "twin"}
    told = {info.name: info.error for info in catalogue()}
    assert told["good"] is None
    assert "expected a class" in told["number"]
    assert "uninstall one of them" in told["two"]
    assert all(told[name] for name in ("exits", "interrupts", "generates", "recurses"))


def test_a_clash_disables_one_name_only(strangers):
    assert plugins.get("stages", "good").__name__ == "thing"
    with pytest.raises(PluginError, match="two stages are called 'two'"):
        plugins.get("stages", "two")


def test_a_real_interrupt_is_nobodys_fault(tmp_path, monkeypatch):
    import os
    import signal

    (tmp_path / "stranger_slow.py").write_text(
        f"import os, signal\nos.kill({os.getpid()}, signal.SIGINT)\nthing = 5"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("slow", "stranger_slow:thing", "nasplatform.stages")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        plugins._load("stages", (entry,))
    assert signal.getsignal(signal.SIGINT) is before
