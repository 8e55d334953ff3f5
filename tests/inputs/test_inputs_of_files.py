"""What people's own files hold: folders of pictures and measurements -> what is read, or a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nasplatform.benchmarks.registry import load_table
from nasplatform.cli import main
from nasplatform.errors import InputError
from nasplatform.models.network import Network
from nasplatform.models.pictures import classify
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

RNG = np.random.default_rng(0)


def pictures(*folders: str, count: int = 4) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path(folder, f"{place}.png"))


def both(*more: str) -> None:
    pictures("d/a", "d/b", *(f"d/{each}" for each in more))


def put(file: str, data: bytes = b"") -> None:
    both()
    Path("d", file).write_bytes(data)


def saved(file: str, mode: str, size: tuple[int, int] = (8, 8)) -> None:
    both()
    Image.new(mode, size).save(Path("d", file))


def linked(name: str, target: str) -> None:
    both()
    Path("d", name).symlink_to(target)


def piped() -> None:
    both()
    os.mkfifo("d/a/p.png")


def read() -> Task:
    return load_task("folder", {"path": "d", "size": 8}, "task")


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: pictures("d/a"), "has 1 class"),
    (lambda: pictures("d"), "expected one directory per class, found none"),
    (lambda: pictures("d/inner/a", "d/inner/b"), "has 1 class"),
    (lambda: [both(), Path("d/c").mkdir()], "d/c holds no image: fill or remove it"),
    (lambda: pictures("d/a", "d/b", count=2), "class 'a' has 2 image"),
    (lambda: pictures("d/Train/a", "d/Train/b", "d/extra/a"), "stands beside d/train"),
    (lambda: pictures("d/TEST/a", "d/TEST/b"), "has TEST/ but no train/"),
    (lambda: pictures("d/train/a", "d/train/b", "d/Val/a", "d/valid/a"), "keep one of them"),
    (lambda: put("a/z.png"), "d/a/z.png cannot be read as an image: it is none, what"),
    (lambda: put("a/z.jpg", b"<html>"), "d/a/z.jpg cannot be read as an image: it is none, what"),
    (lambda: put("a/z.png", b"\x89PNG\r\n\x1a\n"), "d/a/z.png"),
    (lambda: saved("a/z.png", "I;16"), "has I;16 pixels, expected 8 bits per channel"),
    (lambda: saved("a/z.png", "1", (20_000, 20_000)), "has more than 134,217,728 pixels"),
    (lambda: linked("a/up", ".."), "leads back to a folder above it"),
    (lambda: Path("d").touch(), "d is not a directory"),
    (lambda: None, "d is not a directory"),
]
TOLD: list[tuple[Callable[[], object], str]] = [
    (lambda: put("a/z.heic"), "1 of its pictures are left out, 'z.heic' first: read are those in"),
    (lambda: put("z.png"), "1 of its pictures are left out, 'z.png' first"),
    (lambda: linked("a/z.png", "nowhere"), "1 of its pictures are left out, 'z.png' first"),
    (piped, "1 of its pictures are left out, 'p.png' first"),
]
READ: list[tuple[Callable[[], object], str]] = [
    (lambda: both("c d", "\u65e5\u672c"), "16 images of 3 x 8 x 8, 4 classes (a, b, c d, \u65e5"),
    (lambda: both("new\nline"), "3 classes (a, b, 'new\\nline')"),
    (lambda: both("\u202eevil"), "3 classes (a, b, '\\u202eevil')"),
    (lambda: pictures("d/Train/a", "d/Train/b", "d/TEST/a", "d/TEST/b"), "2 classes (a, b)"),
    (lambda: [both(), pictures("d/a/x/y")], "12 images of 3 x 8 x 8, 2 classes"),
    (lambda: saved("a/c.jpg", "CMYK"), "9 images of 3 x 8 x 8"),
    (lambda: saved("a/c.png", "LA"), "9 images of 3 x 8 x 8"),
    (lambda: saved("a/c.gif", "P"), "9 images of 3 x 8 x 8"),
    (lambda: saved("a/c.png", "L", (1, 5000)), "9 images of 3 x 8 x 8"),
    (lambda: put("a/notes.txt"), "8 images of 3 x 8 x 8"),
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=range(len(REFUSED)))
def test_wrong_folders(make: Callable[[], object], words: str) -> None:
    make()
    with pytest.raises(InputError) as refused:
        read()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("make", "words"), TOLD, ids=range(len(TOLD)))
def test_what_is_left_out_of_a_folder_is_told(make: Callable[[], object], words: str) -> None:
    make()
    with pytest.warns(UserWarning, match=words):
        assert "8 images" in read().summary()


@pytest.mark.parametrize(("make", "words"), READ, ids=range(len(READ)))
def test_odd_folders_are_read(make: Callable[[], object], words: str) -> None:
    make()
    assert words in read().summary()


HEAD = "architecture,acc\n[3]11/1,0.1\n[33]110/10/1,0.2\n"
BAD: list[tuple[str | bytes, str]] = [
    (HEAD.replace("0.2", "1_0"), "line 3: acc is '1_0', expected a number"),
    (HEAD.replace("0.2", "\uff11"), "expected a number"),
    (HEAD.replace("0.2", "1e300"), "line 3: acc is '1e300', expected a number"),
    (HEAD.replace("0.2", "inf"), "line 3: acc is 'inf', expected a number"),
    (HEAD.replace("0.2", "nan"), "line 3: acc is 'nan', expected a number"),
    (HEAD.replace("0.2", "True"), "line 3: acc is 'True', expected a number"),
    (HEAD.replace("0.2", "93%"), "line 3: acc is '93%', expected a number"),
    (HEAD.replace(",", "|"), "did you mean 'architecture|acc'?"),
    (HEAD.replace("acc", "Acc"), "no column is called 'acc'; did you mean 'Acc'?"),
    (HEAD.replace("architecture,", '"architecture" * 9,'), "no column is called 'architecture'"),
    ("x" * 900 + HEAD, "no column is called 'architecture'"),
    (HEAD.replace("[33]", '"[33]'), "line 3: 1 cells, the header has 2"),
    (HEAD.encode("utf-16-be"), "line 1 holds a zero byte: this is no text"),
    (b"PK\x03\x04" + HEAD.encode(), "line 1 holds byte 3: this is no text"),
    ('[{"architecture": "[3]11/1", "acc": 1}]', "this is JSON, expected csv, tsv or parquet"),
    (' {"architecture": "[3]11/1", "acc": 1}\n' * 2, "this is JSON, expected csv, tsv or parquet"),
    (b"\x1f\x8b\x08" + HEAD.encode(), "byte 1 is no UTF-8 text, expected csv, tsv or parquet"),
    (HEAD.replace("0.2", "1" * 400), "line 3: acc is '1111"),
    (b"PAR1 and nothing", "cannot be read as parquet: it is of another format, or cut off"),
    ("architecture,acc\n[3]11/1,1\n[3]11/1,2\n", "1 architectures, a table needs at least 2"),
]
FRAME = pd.DataFrame({"architecture": ["[3]11/1", "[33]110/10/1"], "acc": [0.1, 0.2]})
IMPORT = ["data", "import", "m", "--space", "nasbench101", "--score", "acc", "--out"]
FIT = ["predictors", "fit", "--predictor", "gp-trees", "--out", "p"]
OF_FILE = ["--csv", "m", "--space", "nasbench101", "--score", "acc"]
OF_TABLE = ["--table", "none"]
TYPED = [
    ([*IMPORT, "m/x"], "m/x/m: m is a file, expected a folder"),
    ([*IMPORT, "m"], "m/m: m is a file, expected a folder"),
    ([*FIT[:-1], "m/x", *OF_FILE], "m/x: m is a file, expected a folder"),
    ([*FIT, *OF_FILE, "--seed", "99999999999"], "seed: expected a whole number from 0 to 21474"),
    ([*FIT, *OF_FILE, "--metric", "acc"], "--metric is for labels from --table"),
    ([*FIT, *OF_TABLE, "--minimize"], "--minimize is for labels from --csv"),
    ([*FIT, *OF_TABLE, "--skip-bad"], "--skip-bad is for labels from --csv"),
    ([*FIT, *OF_TABLE, "--option", "n=1"], "--option is for labels from --csv"),
    ([*FIT, *OF_TABLE, "--architecture", "x"], "--architecture is for labels from --csv"),
    (["predictors", "evaluate", "--json", "--csv"], "--json and --csv exclude each other"),
    (["serve", "--predictors", "s", "--api-keys", "m"], "m: expected a JSON list of {id, sha256"),
    (["predictors", "show", "other"], "other: no predictor stands here (key 'format' is missing)"),
    (["predictors", "show", "list"], "list: no predictor stands here (it is built in another way)"),
]


@pytest.mark.parametrize(("data", "words"), BAD, ids=range(len(BAD)))
def test_wrong_measurements(
    data: str | bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m").write_bytes(data.encode() if isinstance(data, str) else data)
    assert main([*IMPORT, "out"]) == 2
    _one_line(capsys.readouterr().err, words)
    assert not Path("out").exists()


@pytest.mark.parametrize(("typed", "words"), TYPED, ids=range(len(TYPED)))
def test_wrong_commands(typed: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("m").write_text(HEAD)
    for name, card in {"other": "{}", "list": "[1]"}.items():
        Path(name).mkdir()
        Path(name, "card.json").write_text(card)
    assert main(typed) == 2
    _one_line(capsys.readouterr().err, words)
    assert not Path("p").exists()


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.iloc[[1, 0]],
        FRAME.set_index("architecture"),
        FRAME.astype({"architecture": "category"}),
        FRAME.assign(architecture=[text.encode() for text in FRAME["architecture"]]),
    ],
    ids=["plain", "sorted", "index", "categories", "bytes"],
)
def test_frames_of_pandas_are_read(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    frame.to_parquet("m")
    assert main([*IMPORT, "out", "--name", "t"]) == 0
    assert "index_level" not in capsys.readouterr().err
    assert load_table("out/t.parquet").metrics == ("acc",)


def _one_line(said: str, words: str) -> None:
    complaint = said.splitlines()[-1]
    assert complaint.startswith("error: ")
    assert words in complaint
    assert len(complaint) < 700
    assert "validation error" not in complaint


def test_what_is_no_picture_in_a_folder_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    both()
    Network.named("resnet", depth=8, width=4, classes=2).for_task(read()).save("net")
    for name in ("notes.txt", "a/z.heic", "a/.hidden", "b/Z.PDF"):
        Path("d", name).touch()
    assert main(["predict-images", "net", "d", "--json"]) == 0
    said = capsys.readouterr()
    assert "d: 3 of its files are left out, 'z.heic' first: pictures end in .bmp, .gif" in said.err
    assert len(json.loads(said.out)) == 8


def test_a_large_picture_is_read_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    saved("a/z.png", "L", (10_000, 9_500))
    assert "9 images" in read().summary()
    task = read()
    found = classify(
        Network.named("resnet", depth=8, width=4, classes=2).for_task(task), ["d/a/z.png"]
    )
    assert found["error"].isna().all()
    assert not recwarn.list
