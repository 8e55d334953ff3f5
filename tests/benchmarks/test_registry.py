"""Which tables are found, and that a table that was replaced is read anew."""

from pathlib import Path

import numpy as np
import pytest

from nasplatform.benchmarks import registry
from nasplatform.benchmarks.registry import list_tables, load_table, user_folder
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.errors import DataError
from nasplatform.spaces.nasbench101 import NASBench101, Skeleton
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells


def write(folder: Path, name: str, value: float) -> Path:
    cells = enumerate_cells(3)
    values = np.full((len(cells), 1, 1), value, np.float32)
    table = BenchmarkTable(name, NASBench101(Skeleton()), cells, (4,), {"valid_accuracy": values})
    save_table(table, folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    own, embedded = tmp_path / "own", tmp_path / "embedded"
    monkeypatch.setenv("NASPLATFORM_HOME", str(own))
    monkeypatch.setattr(registry, "embedded_folder", lambda: embedded)
    return own, embedded


def test_the_users_own_come_first(folders: tuple[Path, Path]) -> None:
    own, embedded = folders
    assert user_folder() == own
    assert list_tables() == {}
    write(embedded, "one", 0.1)
    write(embedded, "two", 0.2)
    write(own, "one", 0.9)
    assert list_tables() == {"one": own / "one.parquet", "two": embedded / "two.parquet"}
    assert load_table("one").values("valid_accuracy")[0] == pytest.approx(0.9)
    assert load_table("two").values("valid_accuracy")[0] == pytest.approx(0.2)


def test_by_path_and_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folders[0], "one", 0.9)
    assert load_table(path) is load_table(str(path))
    assert load_table("one") is load_table(path)
    monkeypatch.chdir(folders[0])
    assert load_table("./one.parquet") is load_table(path)


def test_a_replaced_table_is_read_anew(folders: tuple[Path, Path]) -> None:
    write(folders[0], "one", 0.1)
    assert load_table("one").values("valid_accuracy")[0] == pytest.approx(0.1)
    write(folders[0], "one", 0.3)
    assert load_table("one").values("valid_accuracy")[0] == pytest.approx(0.3)
    (folders[0] / "one.parquet").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged or was changed"):
        load_table("one")


def test_unknown(folders: tuple[Path, Path]) -> None:
    write(folders[0], "cells-digits", 0.1)
    with pytest.raises(DataError, match="unknown table 'cells-digit'; did you mean"):
        load_table("cells-digit")
    with pytest.raises(DataError, match="the card of the table is missing"):
        load_table(folders[0] / "none.parquet")


def test_without_the_variable_it_is_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASPLATFORM_HOME")
    assert user_folder() == Path.home() / ".local" / "share" / "nasplatform"
