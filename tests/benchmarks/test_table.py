"""A table on disk and in memory: round trip, damage, look-ups, and how fast they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasplatform.benchmarks.table import BenchmarkTable, read_table, read_table_card, save_table
from nasplatform.errors import ArchitectureError, DataError
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.spaces.nasbench101 import Cell, NASBench101, Skeleton
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

SPACE = NASBench101(Skeleton(stem_channels=8))


def make_table(
    rows: int = 12, f: int = 2, s: int = 3, seed: int = 0, holes: float = 0.3
) -> BenchmarkTable:
    rng = np.random.default_rng(seed)
    cells = enumerate_cells(5)[:: len(enumerate_cells(5)) // rows][:rows]
    values = rng.random((rows, f, s)).astype(np.float32)
    values[rng.random(values.shape) < holes] = np.nan
    values[0, -1, -1] = 0.5  # something is measured
    seconds = np.where(np.isnan(values), np.nan, 7).astype(np.float32)
    return BenchmarkTable(
        name="small",
        space=SPACE,
        architectures=cells,
        fidelities=(4, 108)[-f:],
        measurements={"valid_accuracy": values, "seconds": seconds},
        attributes={"params": SPACE.graphs(cells).total_params},
        card={"command": "made by a test"},
    )


def saved(table: BenchmarkTable, folder: Path) -> Path:
    path = folder / f"{table.name}.parquet"
    save_table(table, path)
    return path


@given(
    st.integers(1, 20), st.integers(1, 2), st.integers(1, 4), st.integers(0, 99), st.floats(0, 1)
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip(tmp_path: Path, rows: int, f: int, s: int, seed: int, holes: float) -> None:
    table = make_table(rows, f, s, seed, holes)
    again = read_table(saved(table, tmp_path))
    assert again.name == table.name
    assert again.space.describe() == SPACE.describe()
    assert again.fidelities == table.fidelities
    assert again.architectures.labels.tolist() == table.architectures.labels.tolist()
    for metric, values in table.measurements.items():
        found = again.measurements[metric]
        assert np.array_equal(found, values[:, :, : found.shape[2]], equal_nan=True)
        assert np.isnan(values[:, :, found.shape[2] :]).all()
    assert np.array_equal(again.attributes["params"], table.attributes["params"])
    assert again.card["command"] == "made by a test"
    assert again.digest == again.card["sha256"]


def test_the_same_table_has_the_same_bytes(tmp_path: Path) -> None:
    first = saved(make_table(), tmp_path / "a").read_bytes()
    assert saved(make_table(), tmp_path / "b").read_bytes() == first
    assert not [p for p in (tmp_path / "a").iterdir() if p.name.startswith(".")]


def test_damage_is_told_from_its_causes(tmp_path: Path) -> None:
    path = saved(make_table(), tmp_path)
    card = path.with_suffix(".json")
    whole, words = path.read_bytes(), card.read_text()
    for at in (0, len(whole) // 2, len(whole) - 1):
        broken = bytearray(whole)
        broken[at] ^= 1
        path.write_bytes(broken)
        with pytest.raises(DataError, match="damaged or was changed"):
            read_table(path)
    path.write_bytes(whole[:-10])
    with pytest.raises(DataError, match="damaged or was changed"):
        read_table(path)
    path.unlink()
    with pytest.raises(DataError, match="the table is missing though its card is there"):
        read_table(path)
    path.write_bytes(whole)
    card.write_text(json.dumps(json.loads(words) | {"format": 2}))
    with pytest.raises(DataError, match="table format 2, this version reads format 1"):
        read_table(path)
    for text in ("{", "[]", "3", '{"format": 1}', '"text"'):
        card.write_text(text)
        with pytest.raises(DataError, match="not the card of a table"):
            read_table_card(path)
    card.unlink()
    with pytest.raises(DataError, match="the card of the table is missing"):
        read_table(path)
    card.write_text(words)
    assert len(read_table(path)) == 12


def test_values(tmp_path: Path) -> None:
    table = make_table()
    runs = table.measurements["valid_accuracy"]
    assert np.allclose(table.values("valid_accuracy", 4), _mean(runs[:, 0]), equal_nan=True)
    assert np.allclose(table.values("valid_accuracy"), _mean(runs[:, 1]), equal_nan=True)
    assert np.array_equal(table.values("valid_accuracy", 4, 2), runs[:, 0, 2], equal_nan=True)
    for arguments, words in (
        (("accuracy",), "no metric 'accuracy'; did you mean 'valid_accuracy'"),
        (("seconds", 12), "no measurements at 12 epochs; it has 4, 108"),
        (("seconds", 4, 3), "has seeds 0 to 2, not 3"),
        (("seconds", 4, -1), "has seeds 0 to 2, not -1"),
    ):
        with pytest.raises(DataError, match=words):
            table.values(*arguments)


def _mean(runs: np.ndarray) -> np.ndarray:
    return np.array(
        [np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in runs]
    )


def test_frame_has_a_row_per_run() -> None:
    table = make_table()
    frame = table.frame()
    runs = table.measurements["valid_accuracy"]
    assert len(frame) == np.isfinite(runs).sum()
    line = frame.iloc[-1]
    row = table.row(SPACE.parse(line["architecture"]))
    f = table.fidelities.index(line["epochs"])
    assert line["valid_accuracy"] == runs[row, f, line["seed"]]
    assert line["params"] == table.attributes["params"][row]


def _relabelled(cell: Cell) -> Cell | None:
    """Return the cell with two interior vertices exchanged, if that leaves its matrix upper."""
    matrix, ops = np.array(cell.matrix), cell.ops
    for vertex in range(1, len(ops) - 2):
        if not matrix[vertex, vertex + 1]:
            order = [*range(vertex), vertex + 1, vertex, *range(vertex + 2, len(ops))]
            found = Cell.of(matrix[np.ix_(order, order)], [ops[v] for v in order])
            if found.code != cell.code:
                return found
    return None


def test_every_labelling_of_a_cell_finds_its_row() -> None:
    table = make_table(300)
    others = 0
    bulk, expected = [], []
    for row, cell in enumerate(table.architectures):
        assert table.row(cell) == row
        other = _relabelled(cell)
        if other is not None:
            others += 1
            assert table.row(other) == row
            assert table.row(other) == row  # remembered
            bulk.append(other)
            expected.append(row)
    assert others > 30
    mixed = SPACE.population([*bulk, *table.architectures])
    assert table.rows(mixed).tolist() == [*expected, *range(300)]
    missing = set(enumerate_cells(5).labels.tolist()) - set(table.architectures.labels.tolist())
    with pytest.raises(ArchitectureError, match="is not among the 300 architectures of table"):
        table.row(Cell(missing.pop()))
    with pytest.raises(ArchitectureError, match="is not among the 300 architectures of table"):
        table.rows(SPACE.population([*bulk, Cell(missing.pop())]))


def test_of_two_rows_of_one_cell_the_labelling_decides() -> None:
    cell = next(c for c in enumerate_cells(5)[80:] if _relabelled(c) is not None)
    other = _relabelled(cell)
    assert other is not None
    cells = SPACE.population([other, cell])
    values = np.ones((2, 1, 1), np.float32)
    table = BenchmarkTable("two", SPACE, cells, (108,), {"valid_accuracy": values})
    assert (table.row(other), table.row(cell)) == (0, 1)


@pytest.mark.parametrize("seeds", ["mean", "single"])
def test_evaluator_answers_as_the_arrays_do(
    tmp_path: Path, seeds: Literal["mean", "single"]
) -> None:
    table = make_table(40)
    path = saved(table, tmp_path)
    evaluator = TableEvaluator(TableOptions(table=str(path), seeds=seeds), SPACE)
    runs = table.measurements["valid_accuracy"]
    for row, cell in enumerate(table.architectures):
        for f, epochs in enumerate(table.fidelities):
            made = np.flatnonzero(np.isfinite(runs[row, f]))
            for seed in range(4):
                if not len(made):
                    with pytest.raises(ArchitectureError, match=f"at {epochs} epochs"):
                        evaluator.evaluate(cell, epochs, seed)
                    continue
                used = made if seeds == "mean" else made[[seed % len(made)]]
                found = evaluator.evaluate(cell, epochs, seed)
                assert found.score == pytest.approx(float(runs[row, f, used].mean()), rel=1e-6)
                assert found.metrics["valid_accuracy"] == found.score
                assert found.seconds == 7 * len(used)
                assert found.metrics["params"] == table.attributes["params"][row]


def test_a_warm_answer_takes_microseconds(tmp_path: Path, benchmark: Callable[..., Any]) -> None:
    path = saved(make_table(400, holes=0.0), tmp_path)
    evaluator = TableEvaluator(TableOptions(table=str(path)), SPACE)
    cells = list(evaluator.table.architectures)
    position = iter(range(10**9))
    benchmark(lambda: evaluator.evaluate(cells[next(position) % len(cells)], 108, 0))
