"""Runs of others: one bad one is left out and named; looking at them changes and asks nothing."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import warnings
from pathlib import Path

import pytest

from nasplatform.cli import main
from nasplatform.runs import frames
from nasplatform.runs.driver import run

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # that name what is left out
SEARCH = """
name: small
evaluator: {name: table, table: cells-digits, metric: valid_accuracy}
search: {sampler: {name: random}, budget: 4}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that ended and one that was broken off."""
    folder = tmp_path_factory.mktemp("foreign")
    file = folder / "small.yaml"
    file.write_text(SEARCH)
    run(file, folder / "runs" / "ended")

    def break_off(event):
        if event.phase == "search" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(file, folder / "runs" / "going", watch=break_off)
    return folder / "runs"


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Each path, with its size and date."""
    paths = sorted(folder.rglob("*"))
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.is_file()}


def rewritten(runs: Path, tmp_path: Path, old: str, new: str, name: str = "going") -> Path:
    """A copy of the runs in which the file of one says something else."""
    shutil.copytree(runs, tmp_path / "runs")
    file = tmp_path / "runs" / name / "resolved.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("provenance:", "provenance: true\nx:"),
        ("name: small", "name: 2001-13-01"),
        ("budget: 4", "budget: " + "9" * 5000),
        ("space:", "space: [1]\ny:"),
        ("seed: 0", "seed: .nan"),
        ("name: small", 'name: "\\ud800"'),
    ],
)
def test_a_bad_run_is_left_out_and_named(runs, tmp_path, capsys, old, new):
    folder = rewritten(runs, tmp_path, old, new)
    assert main(["results", "list", str(folder)]) == 0
    told = capsys.readouterr()
    assert "ended" in told.out
    assert "going" in told.err
    assert main(["results", "list", str(folder / "going")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_looking_changes_no_file(runs, capsys):
    before = everything(runs)
    found = frames.list_runs(runs)
    assert found["evaluations"].tolist() == [4, 2]
    assert main(["results", "export", str(runs), "--out", str(runs.parent / "all.csv")]) == 0
    assert everything(runs) == before


def test_a_log_without_its_index_is_read_and_left_alone(runs, tmp_path):
    import sqlite3

    shutil.copytree(runs / "going", tmp_path / "live")
    file = tmp_path / "live" / "study.db"
    with sqlite3.connect(file) as kept:
        kept.execute("PRAGMA journal_mode = WAL")
        kept.execute("CREATE TABLE extra (x)")
        kept.commit()
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    kept.close()
    (tmp_path / "copy" / "study.db-shm").unlink()
    before = everything(tmp_path / "copy")
    assert len(frames.read_runs(tmp_path / "copy")) == 2
    assert everything(tmp_path / "copy") == before


def test_a_missing_study_is_not_made(runs, tmp_path):
    shutil.copytree(runs / "going", tmp_path / "going")
    (tmp_path / "going" / "study.db").unlink()
    assert frames.list_runs(tmp_path)["evaluations"].tolist() == [0]
    assert not (tmp_path / "going" / "study.db").exists()
    (tmp_path / "going" / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.warns(UserWarning, match="not a study"):
        assert frames.list_runs(tmp_path).empty


def test_a_database_that_a_run_names_is_asked_only_when_asked_for(runs, tmp_path, capsys):
    listener = socket.create_server(("127.0.0.1", 0))
    port, seen = listener.getsockname()[1], []

    def accept():
        try:
            while True:
                seen.append(listener.accept())
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    url = f"sqlite:///{tmp_path}/theirs.db"
    folder = rewritten(runs, tmp_path, "seed: 0", f"storage: {url}\nseed: 0")
    assert main(["results", "list", str(folder)]) == 0
    assert "was not contacted" in capsys.readouterr().err
    assert not (tmp_path / "theirs.db").exists()
    text = (folder / "going" / "resolved.yaml").read_text()
    remote = f"postgresql+psycopg://me:secret@127.0.0.1:{port}/x"
    (folder / "going" / "resolved.yaml").write_text(text.replace(url, remote))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames.list_runs(folder)
        frames.read_runs(folder)
    assert main(["results", "list", str(folder)]) == 0
    assert "secret" not in capsys.readouterr().err
    listener.close()
    assert not seen


def test_a_pipe_is_no_run(runs, tmp_path):
    shutil.copytree(runs / "ended", tmp_path / "ended")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "resolved.yaml")
    assert frames.list_runs(tmp_path)["run"].tolist() == ["ended"]
