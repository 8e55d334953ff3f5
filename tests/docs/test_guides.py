"""The tour and the guides work as typed: files are written, lines are run, Python is executed.

Blocks marked ``sh`` run in a shell, those with a title become that file, ``python`` is executed;
``console`` shows what installs something or lasts longer, and is not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def follow(document: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Do what a document says, block by block, in a folder; return what its Python made."""
    for shown in ("searches", "examples"):
        shutil.copytree(ROOT / shown, folder / shown)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    made: dict[str, object] = {}
    for language, title, text in BLOCK.findall((ROOT / document).read_text()):
        if title:
            Path(title).write_text(text)
        elif language == "sh":
            subprocess.run(["bash", "-ec", text], check=True, timeout=600)
        elif language == "python":
            exec(text, made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [
        "tour",
        "guides/own-network",
        "guides/own-space",
        "guides/deployment",
        "guides/own-images",
        "guides/figures",
    ],
)
def test_followed_word_for_word(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(f"docs/{document}.md", tmp_path, monkeypatch)
    sys.modules.pop("my_nets", None)
