"""``nasplatform data`` as a user meets it, against a real server on this machine."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nasbench101_writer import official_payloads

from nasplatform import fetch
from nasplatform.benchmarks import registry
from nasplatform.benchmarks.registry import load_table
from nasplatform.benchmarks.tfrecord import write_records
from nasplatform.cli import main
from nasplatform.fetch import Download, RemoteFile
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

CELLS = enumerate_cells(4)[::20]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, no embedded tables, and a few attempts to reach a server."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NASPLATFORM_HOME", str(folder))
    monkeypatch.setattr(registry, "embedded_folder", lambda: tmp_path / "embedded")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def official(tmp_path: Path) -> Path:
    file = tmp_path / "served" / "nasbench_only108.tfrecord"
    write_records(file, official_payloads(CELLS))
    return file


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, official: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server with a small file of each kind, and a catalogue that points to it."""
    folder = official.parent
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    for name in [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]:
        records = np.random.default_rng(len(name)).integers(0, 256, (10, 3073), dtype=np.uint8)
        records[:, 0] = range(10)
        (inner / name).write_bytes(records.tobytes())
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as tar:
        tar.add(inner, inner.name)
    for name in ("a.gz", "b.gz"):
        (folder / name).write_bytes(gzip.compress(name.encode()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def entry(name: str, kind: str, *files: str, **more: Any) -> Download:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        remote = [
            RemoteFile(
                url=f"{base}/{file}",
                bytes=(folder / file).stat().st_size,
                sha256=hashlib.sha256((folder / file).read_bytes()).hexdigest(),
            )
            for file in files
        ]
        values = {"about": name, "licence": "none", "page": base, "files": remote, **more}
        return Download.model_validate({"name": name, "kind": kind, **values})

    entries = [
        entry("nasbench101", "table", official.name, importer="nasbench101"),
        entry("cifar10", "images", "cifar.tar.gz", unpack=True),
        entry("pair", "images", "a.gz", "b.gz"),
    ]
    monkeypatch.setattr(fetch, "catalogue", lambda: {e.name: e for e in entries})
    yield folder
    server.shutdown()
    server.server_close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[Any, str]:
    """Run a command with --json; return its document and what it said to people."""
    assert main(["data", *arguments, "--json"]) == code
    output = capsys.readouterr()
    return (json.loads(output.out) if output.out else None), output.err


def test_list_says_what_is_there_and_how_to_get_the_rest(
    official: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, _ = said(capsys, "list")
    commands = {row["name"]: row["command"] for row in rows}
    assert not any(row["at_hand"] for row in rows)
    assert commands["cells-digits"] == "nasplatform data build cells-digits"
    assert commands["nasbench101"] == "nasplatform data fetch nasbench101"
    assert commands["nasbench101-full"] == "nasplatform data fetch nasbench101-full"
    assert commands["nasbench201"] == "nasplatform data import nasbench201 FILE"
    assert commands["cifar10"] == "nasplatform data fetch cifar10"
    assert {row["name"]: row["mebibytes"] for row in rows}["nasbench101"] == 499
    assert main(["data", "import", "nasbench101", str(official)]) == 0
    capsys.readouterr()
    rows, _ = said(capsys, "list")
    (table,) = [row for row in rows if row["at_hand"]]
    assert (table["name"], table["architectures"], table["complete"]) == ("nasbench101", 5, False)
    assert "nasbench101-full" not in {row["name"] for row in rows}
    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert "Tables at hand" in out
    assert "To be had" in out


def test_a_broken_card_does_not_hide_the_others(
    official: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "nasbench101", str(official)]) == 0
    (home / "broken.json").write_text("{")
    capsys.readouterr()
    rows, _ = said(capsys, "list")
    assert {row["name"]: bool(row.get("error")) for row in rows if row["at_hand"]} == {
        "broken": True,
        "nasbench101": False,
    }
    assert main(["data", "list"]) == 0
    output = capsys.readouterr()
    assert "not readable" in output.err
    assert "nasbench101" in output.out


def test_import_and_verify(official: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, err = said(capsys, "import", "nasbench101", str(official))
    assert document == {
        "name": "nasbench101",
        "kind": "table",
        "path": str(home / "nasbench101.parquet"),
    }
    assert "import 1000/1000: reading nasbench_only108.tfrecord" in err
    assert len(load_table("nasbench101")) == len(CELLS)
    (row,), _ = said(capsys, "verify")
    assert row["ok"]
    path = home / "nasbench101.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    (row,), err = said(capsys, "verify", code=2)
    assert not row["ok"]
    assert err.splitlines()[-1].startswith(f"error: {path}: sha256 is")


def test_import_to_a_folder(official: Path, tmp_path: Path) -> None:
    command = ["data", "import", "nasbench101", str(official), "--out", "here"]
    assert main(command) == 0
    assert (tmp_path / "here" / "nasbench101.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "nasbench10", "x"], "did you mean 'nasbench101'"),
        (["import", "nasbench101", "missing"], "missing is not a file"),
        (["import", "nasbench101", "text"], "neither NAS-Bench-101's TFRecord file nor"),
        (["import", "nasbench101", "half"], "half ends in the middle of record"),
        (["import", "nasbench101", "text", "--workers", "2"], "leave --workers out"),
        (["fetch", "cifar"], "nothing to fetch is called 'cifar'; did you mean"),
        (["fetch", "mnist", "--full"], "mnist has no larger edition"),
        (["verify", "nasbench"], "unknown table 'nasbench'"),
        (["build", "cells"], "no set-up is called 'cells'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    official: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("text").write_text("text")
    Path("half").write_bytes(official.read_bytes()[:-100])
    assert main(["data", *arguments]) == 2
    output = capsys.readouterr()
    complaints = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(complaints) == 1
    assert words in complaints[0]
    assert output.err.splitlines()[-1] == complaints[0]


@pytest.mark.usefixtures("served")
def test_fetch_a_benchmark(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, err = said(capsys, "fetch", "nasbench101")
    assert document["path"] == str(home / "nasbench101.parquet")
    assert "fetch" in err
    assert len(load_table("nasbench101")) == len(CELLS)
    assert not (home / "downloads" / "nasbench101").exists()
    document, err = said(capsys, "fetch", "nasbench101")
    assert document["path"] == str(home / "nasbench101.parquet")
    assert "at hand already, from this very file" in err


@pytest.mark.usefixtures("served")
def test_fetch_keeps_the_file_when_asked(home: Path) -> None:
    assert main(["data", "fetch", "nasbench101", "--keep"]) == 0
    assert (home / "downloads" / "nasbench101" / "nasbench_only108.tfrecord").exists()


@pytest.mark.usefixtures("served")
def test_fetch_images(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nasplatform.training.datasets import load_task

    document, _ = said(capsys, "fetch", "cifar10")
    assert document == {
        "name": "cifar10",
        "kind": "data set",
        "path": str(home / "datasets" / "cifar10"),
    }
    task = load_task("cifar10", {"valid_size": 10, "train_size": 30}, "task")
    assert len(task.test) == 10
    _, err = said(capsys, "fetch", "cifar10")
    assert "at hand already" in err
    said(capsys, "fetch", "pair")
    names = sorted(p.name for p in (home / "datasets" / "pair").iterdir())
    assert names == ["a.gz", "b.gz"]
    rows, _ = said(capsys, "list")
    assert {row["name"] for row in rows if row["at_hand"]} == {"cifar10", "pair"}


def test_fetch_of_a_changed_file_leaves_nothing(
    served: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (served / "b.gz").write_bytes(gzip.compress(b"evil"))
    _, err = said(capsys, "fetch", "pair", code=2)
    assert "what was downloaded is removed" in err.splitlines()[-1]
    assert not (home / "datasets" / "pair").exists()


def test_offline_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = fetch.get_download("mnist").model_dump()
    entry["files"] = [{"url": "https://name.invalid/train.gz"}]
    monkeypatch.setattr(fetch, "catalogue", lambda: {"mnist": Download.model_validate(entry)})
    _, err = said(capsys, "fetch", "mnist", code=2)
    assert "taken on trust" in err
    assert "name.invalid cannot be reached" in err.splitlines()[-1]


def test_build_without_a_compiler_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": "", "NASPLATFORM_CACHE": str(tmp_path / "cache")}
    program = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "data", "build", "cells-digits"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: building a benchmark, unlike reading the ready tables, needs a C compiler"
    )
    assert "Traceback" not in done.stderr


def test_build_is_told_of_and_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nasplatform.benchmarks import embedded
    from nasplatform.benchmarks.cellnet import Recipe
    from nasplatform.benchmarks.embedded import building

    setup = embedded.Setup(
        name="tiny",
        dataset="digits",
        options={},
        space=embedded.SETUPS["cells-digits"].space,
        trainer=embedded.CellKernel(Recipe(epochs=1, evaluate_at=(1,))),
        groups=(embedded.CellGroup((2, 4), seeds=1, sample=16),),
        licence="none",
    )
    monkeypatch.setitem(embedded.SETUPS, "tiny", setup)
    train, calls = building._train_part, []

    def interrupted(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        train(*arguments)

    monkeypatch.setattr(building, "_train_part", interrupted)
    command = ["build", "tiny", "--out", "tables", "--workers", "1"]
    _, err = said(capsys, *command, code=130)
    assert "what was trained is kept" in err
    document, err = said(capsys, *command)
    assert "build 1/2: training tiny" in err
    assert document["path"] == "tables/tiny.parquet"
    assert len(load_table(tmp_path / "tables" / "tiny.parquet")) == 16
