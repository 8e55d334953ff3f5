"""The lines of README work as typed: quick ones in this process, all of them in a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nasplatform
from nasplatform.cli import main
from nasplatform.spaces import get_space

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL = [text for language, text in BLOCKS if not language and text.startswith("nasplatform ")]
TYPED = re.findall(r"`(nasplatform [^`]+)`", README)
INLINE = sorted({line for line in TYPED if not re.search(r"\b[A-Z]{4}", line)})
SEARCHES, MEASUREMENTS, SERVICE = SHELL
LONG = ("nasplatform run ",)
OWN = {"stem_channels": 8}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as README's reader has it: the searches, measurements of his own, more cells."""
    shutil.copytree(ROOT / "searches", tmp_path / "searches")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    space = get_space("nasbench101", **OWN)
    cells = space.sample(260, np.random.default_rng(0)).unique()
    noise = np.random.default_rng(1).normal(0, 0.01, len(cells))
    scores = np.log(space.graphs(cells).total_params) / 20 + noise
    texts = [space.format(cell) for cell in cells]
    frame = pd.DataFrame({"architecture": texts, "accuracy": scores})
    frame.to_csv("mine.csv", index=False)
    Path("more.txt").write_text("\n".join(texts[:5]) + "\n")
    return tmp_path


def test_every_block_of_commands_is_one_that_is_tried() -> None:
    assert [block.split()[1] for block in SHELL] == ["run", "data", "serve"]
    assert len(INLINE) >= 3


@pytest.mark.parametrize("line", [one for one in INLINE if not one.startswith(LONG)])
def test_lines_in_the_text(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_results_of_a_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = {"search.budget": 6, "search.sampler": {"name": "random"}}
    nasplatform.run("searches/quickstart.yaml", "runs/q", {**quick, "stages": []})
    lines = [shlex.split(one, comments=True) for one in SEARCHES.splitlines()]
    asked = [line[1:] for line in lines if line[1] != "run"]
    assert len(asked) == 4
    for words in asked:
        assert main(words) == 0
    assert (home / "all.parquet").is_file()
    said = capsys.readouterr().out
    assert "the best of 6 evaluations" in said
    assert "runs/q/report.html" in said


@pytest.mark.slow
def test_searches_and_service_in_a_shell(home: Path) -> None:
    subprocess.run(["bash", "-ec", SEARCHES], check=True, timeout=900)
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("something else listens at port 8000")
    serve, _, ask = SERVICE.partition("\n")
    with subprocess.Popen(shlex.split(serve, comments=True)) as server:
        try:
            until = time.monotonic() + 120
            while (answer := subprocess.run(["bash", "-ec", ask], capture_output=True)).returncode:
                assert time.monotonic() < until, answer.stderr
                time.sleep(0.5)
        finally:
            server.terminate()
    assert b'"predictions"' in answer.stdout or b'"mean"' in answer.stdout


@pytest.mark.slow
def test_own_measurements_in_a_shell(home: Path) -> None:
    subprocess.run(["bash", "-ec", MEASUREMENTS], check=True, timeout=900)
    assert len(pd.read_csv("scores.csv")) == 5
