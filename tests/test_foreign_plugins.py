"""Plug-ins that end the program, clash, or are something else: reported, and the others work."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nasplatform import faults, plugins
from nasplatform.catalogue import catalogue
from nasplatform.errors import PluginError

STAGE = """
from pydantic import BaseModel
from nasplatform.stages.base import Stage
class Nothing(BaseModel):
    pass
class thing(Stage):
    name = "{name}"
    Options = Nothing
    def apply(self, network, task, context):
        raise ValueError("a singular matrix")
"""
MODULES = {
    "exits": "import sys\nsys.exit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "generates": "raise GeneratorExit",
    "recurses": "def f(): f()\nf()",
    "number": "thing = 5",
    "foreign": "class thing: pass",
    "good": STAGE.format(name="good"),
    "twin": STAGE.format(name="twin"),
    "other": STAGE.format(name="another"),
    "abstract": STAGE.format(name="abstract").replace("def apply", "def other"),
    "optionless": STAGE.format(name="optionless").replace("Options = Nothing", "Options = dict"),
    "nameless": STAGE.format(name="nameless").replace("name =", "title ="),
    "breaks": STAGE.format(name="breaks"),
    "worded": "class X(Exception):\n    def __str__(self): raise RuntimeError\nraise X",
    "swallows": "class M(type):\n    __subclasscheck__ = 1\n"
    "class T:\n    def __getattribute__(self, name): raise SystemExit(name)\nthing = T()",
    "methodless": STAGE.format(name="methodless") + "    apply = 5\n",
    "schemaless": STAGE.format(name="schemaless").replace(
        "    pass", "    x: object = 5\n    y: 'Unknown' = 5"
    ),
    "wordless": STAGE.format(name="wordless").replace("name =", "__doc__ = 5\n    name ="),
    "upsets": "import os, sys, warnings\nprint('HELLO')\nos.chdir('/')\nsys.stdout.close()\n"
    "sys.setrecursionlimit(90)\nwarnings.simplefilter('error')\n" + STAGE.format(name="upsets"),
}
WORKING = {"good", "twin", "breaks", "schemaless", "wordless", "upsets"}


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Register a module of each kind among the stages, and two of one name."""
    for name, text in MODULES.items():
        (tmp_path / f"stranger_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    group = "nasplatform.stages"
    found = [EntryPoint(name, f"stranger_{name}:thing", group) for name in MODULES]
    found += [
        EntryPoint("unspelt", "stranger good: thing", group),
        EntryPoint("spelt", "stranger_good:thing:thing", group),
    ]
    found += [EntryPoint("two", f"stranger_{name}:thing", group) for name in ("good", "twin")]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: found if group == "nasplatform.stages" else []
    )
    plugins._entries.cache_clear()
    plugins._load.cache_clear()
    yield
    monkeypatch.undo()
    plugins._entries.cache_clear()
    for name in MODULES:
        sys.modules.pop(f"stranger_{name}", None)


def test_bad_plugins_are_reported_and_the_others_work(strangers):
    with pytest.warns(UserWarning, match="is broken|are called"):
        assert set(plugins.working("stages")) == WORKING
    told = {info.name: info.error for info in catalogue()}
    assert told["good"] is None
    assert "expected a class" in told["number"]
    assert "uninstall one of them" in told["two"]
    assert "no subclass of nasplatform.stages.base.Stage" in told["foreign"]
    assert "'name' is 'another', expected the registered 'other'" in told["other"]
    assert "does not define apply" in told["abstract"]
    assert "Options are <class 'dict'>" in told["optionless"]
    assert "no class attribute 'name'" in told["nameless"]
    assert all(told[name] for name in ("exits", "interrupts", "generates", "recurses"))
    assert told["worded"].endswith("is broken: X")
    assert told["swallows"].endswith("is broken: __class__")
    assert "its apply is a int, expected a method" in told["methodless"]
    assert "cannot be described" in told["schemaless"]
    assert told["wordless"] is None
    assert "expected MODULE:NAME" in told["unspelt"]
    assert "expected MODULE:NAME" in told["spelt"]


def test_an_import_leaves_the_process_as_it_was(strangers, capsys):
    def state():
        strict = [one for one in warnings.filters if one[0] == "error"]
        return Path.cwd(), sys.getrecursionlimit(), sys.stdout, sys.stderr, strict

    before = state()
    plugins.get("stages", "upsets")
    assert state() == before
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "stage 'upsets' (stranger_upsets:thing) says: HELLO\n"


@pytest.mark.parametrize("text", [b"[nasplatform.stages]\nno equals", b"[x]\n\xff = a:b"])
def test_a_package_with_damaged_metadata_is_named(text, tmp_path, monkeypatch):
    home = tmp_path / "odd-1.0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (home / "entry_points.txt").write_bytes(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._entries.cache_clear()
    with pytest.raises(PluginError, match=rf"{tmp_path} \(odd\): entry_points.txt is damaged"):
        plugins.names("stages")


def test_a_clash_disables_one_name_only(strangers):
    assert plugins.get("stages", "good").__name__ == "thing"


def test_what_a_plugin_raises_is_told_as_its_own(strangers):
    stage = plugins.get("stages", "breaks")()
    with pytest.raises(ValueError, match="singular") as caught:
        stage.apply(None, None, None)
    words = faults.in_words(caught.value)
    assert words.startswith("stage 'breaks': thing.apply (stranger_breaks.py, line 10) raised")
    assert words.endswith("ValueError: a singular matrix")
    assert faults.in_words(ValueError("ours")) is None
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
