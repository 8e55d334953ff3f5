"""Files and failures from outside: bounded, and told in one line."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from nasplatform import faults
from nasplatform.atomic_io import recover
from nasplatform.cli import main
from nasplatform.errors import ConfigError, DataError
from nasplatform.foreign import blaming, read_bytes, read_json
from nasplatform.yaml_source import read_yaml


def test_whatever_a_parser_raises_names_the_file(tmp_path):
    for error in (RecursionError(), KeyError("x"), OverflowError("too\nlarge"), MemoryError()):
        with pytest.raises(DataError, match="there: damaged") as told, blaming("there", DataError):
            raise error
        assert "\n" not in str(told.value)
    with pytest.raises(DataError, match=r"^there is none$"), blaming("there", DataError):
        raise DataError("there is none")
    with pytest.raises(KeyboardInterrupt), blaming("there", DataError):
        raise KeyboardInterrupt


def test_pipes_and_giants_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_json(tmp_path / "pipe")
    (tmp_path / "giant").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="11 bytes, expected at most 10"):
        read_bytes(tmp_path / "giant", 10)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), "make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (sqlite3.OperationalError("database is locked"), "another process holds it"),
        (sqlite3.OperationalError("database or disk is full"), "make room"),
        (sqlite3.DatabaseError("database disk image is malformed"), "restore a copy"),
        (sqlite3.DatabaseError("file is not a database"), "restore a copy"),
        (MemoryError(), "memory"),
        (Exception("I/O error: No space left on device (os error 28)"), "make room"),
    ],
)
def test_failures_below_us_say_what_is_safe(error, words):
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("of a library") from inner
    except RuntimeError as outer:
        told = faults.in_words(outer)
    assert told is not None
    assert words in told
    assert "\n" not in told


def test_a_bug_of_ours_is_not_explained_away():
    assert faults.in_words(TypeError("unsupported operand")) is None


def test_errors_of_libraries_carry_no_password():
    from sqlalchemy.exc import OperationalError

    error = OperationalError("x", {}, Exception("at postgresql://me:secret@host/db: refused"))
    told = faults.in_words(error)
    assert told is not None
    assert "secret" not in told


def bomb() -> str:
    lines = ["a0: &a0 [" + ",".join("x" * 9) + "]"]
    lines += [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: " + "9" * 5000, "4300 digits"),
        ("a: &a [*a]", "alias"),
        (bomb(), "100,000 values"),
        ("[" * 2000, "nested too deeply"),
        ("a: " + "x" * 300_000, "300,003 bytes"),
        ("<<: 5", "broken YAML"),
        ("a: \ud800", "text file"),
    ],
)
def test_a_search_file_of_any_kind_is_told_in_one_line(tmp_path, capsys, text, words):
    file = tmp_path / "search.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=words):
        read_yaml(file)
    assert main(["run", str(file)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in told) == 1
    assert len(told[-1]) < 1000


def test_what_killed_writers_left_is_put_back_or_removed(tmp_path):
    (tmp_path / ".model.abcdefgh").mkdir()
    (tmp_path / ".card.json.a_c3efgh").write_text("half")
    old = tmp_path / ".model.old.abcdefgh"
    (old / "model").mkdir(parents=True)
    (old / "model" / "weights").write_text("whole")
    (tmp_path / ".lock").touch()
    recover(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "model"]
    assert (tmp_path / "model" / "weights").read_text() == "whole"


def test_leftovers_of_the_living_stay(tmp_path):
    (tmp_path / ".model.abcdefgh").mkdir()
    recover(tmp_path, age=60)
    assert (tmp_path / ".model.abcdefgh").is_dir()
