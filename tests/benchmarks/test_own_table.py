"""A user's own measurements become a table, whatever separates them, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nasplatform.benchmarks.imports.columns import parse_columns, read_columns
from nasplatform.benchmarks.imports.measured import grouped, read_measured
from nasplatform.benchmarks.imports.own_table import OwnTable, import_own_table
from nasplatform.benchmarks.table import BenchmarkTable, read_table
from nasplatform.errors import DataError
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.spaces import get_space

SPACE = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
CELLS = SPACE.sample(30, np.random.default_rng(0)).unique()
TEXTS = [SPACE.format(cell) for cell in CELLS]
SCORES = np.linspace(0.5, 0.9, len(CELLS))


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"architecture": TEXTS, "accuracy": SCORES, **columns})


def imported(file: Path, asked: OwnTable | None = None) -> tuple[BenchmarkTable, list[str]]:
    path, notes = import_own_table(
        file, SPACE, asked or OwnTable("accuracy"), "own", file.parent / "tables"
    )
    return read_table(path), notes


@pytest.mark.parametrize(
    ("separator", "encoding", "decimal"),
    [
        (",", "utf-8", "."),
        (";", "utf-8-sig", ","),
        ("\t", "utf-16", "."),
        (";", "utf-8", "."),
        ("parquet", "", ""),
    ],
)
def test_any_separator_and_parquet(
    tmp_path: Path, separator: str, encoding: str, decimal: str
) -> None:
    file = tmp_path / "scores"
    if separator == "parquet":
        frame().to_parquet(file)
    else:
        frame().to_csv(file, sep=separator, encoding=encoding, decimal=decimal, index=False)
    table, notes = imported(file)
    assert notes == []
    assert table.space.describe() == SPACE.describe()
    np.testing.assert_array_equal(table.architectures.codes, CELLS.codes)
    np.testing.assert_allclose(table.scores(), SCORES, rtol=1e-6)
    assert table.attributes["params"].tolist() == SPACE.graphs(CELLS).total_params.tolist()
    assert table.card["ceiling"] == {}
    assert table.card["best"][0]["architecture"] == TEXTS[-1]
    assert json.loads(json.dumps(table.card, allow_nan=False))["score"] == "accuracy"


def test_isomorphic_rows_are_repeated_measurements(tmp_path: Path) -> None:
    pair = ["[31]110/01/1", "[13]110/01/1"]  # parallel branches in another order
    assert SPACE.parse(pair[0]) == SPACE.parse(pair[1])
    again = pd.DataFrame({"architecture": [pair[0], *TEXTS[:20], pair[1]]})
    again["accuracy"] = np.linspace(0.4, 0.8, 22)
    file = tmp_path / "scores.csv"
    pd.concat([frame(), again]).to_csv(file, index=False)
    table, notes = imported(file)
    assert len(table) == len(CELLS) + 1
    assert table.seeds == 2
    row = table.row(SPACE.parse(pair[1]))
    assert table.values("accuracy")[row] == pytest.approx(0.6, rel=1e-6)
    assert table.values("accuracy", seed=1)[row] == pytest.approx(0.8, rel=1e-6)
    assert list(table.card["ceiling"]) == ["21 architectures, 2 seeds"]
    assert f"measurements of {len(CELLS) + 1} different architectures" in notes[0]


def test_copied_rows_are_told(tmp_path: Path) -> None:
    pd.concat([frame(), frame()[:3]]).to_csv(tmp_path / "scores.csv", index=False)
    _, notes = imported(tmp_path / "scores.csv")
    assert "3 rows repeat an earlier one to the last digit" in notes[-1]


def test_further_columns_become_metrics_or_attributes(tmp_path: Path) -> None:
    more = {
        "val acc": np.where(np.arange(len(CELLS)) == 3, np.nan, SCORES / 2),
        "latency": np.arange(len(CELLS)) + 1.0,
        "flops": np.arange(len(CELLS)),
        "note": "fine",
    }
    frame(**more).to_csv(tmp_path / "scores.csv")  # with the index, a column without a name
    table, notes = imported(tmp_path / "scores.csv", OwnTable("accuracy", attributes=("latency",)))
    assert table.metrics == ("accuracy", "val_acc", "stated_flops")
    assert set(table.attributes) == {"params", "flops", "latency"}
    assert np.isnan(table.values("val_acc")[3])
    assert table.attributes["flops"].tolist() == SPACE.graphs(CELLS).total_flops.tolist()
    assert any("without numbers: note" in note for note in notes)
    assert any("'val acc' as val_acc" in note for note in notes)
    assert table.card["correlation"]["latency"] == 1


@pytest.mark.usefixtures("home")
def test_less_of_a_cost_is_better(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "own.csv", index=False)
    asked = OwnTable("accuracy", minimize=True)
    path, _ = import_own_table(tmp_path / "own.csv", SPACE, asked, "own", tmp_path)
    table = read_table(path)
    assert table.direction("accuracy") == "minimize"
    np.testing.assert_allclose(table.scores(), -SCORES, rtol=1e-6)
    assert table.card["best"][0]["architecture"] == TEXTS[0]
    evaluator = TableEvaluator(TableOptions(table=str(path)), table.space)
    first = evaluator.evaluate(CELLS[0], 1, 0)
    assert first.score == pytest.approx(-0.5)
    assert first.metrics["accuracy"] == pytest.approx(0.5)
    np.testing.assert_allclose(evaluator.known_scores(), -SCORES, rtol=1e-6)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))


def test_bad_rows_are_counted_named_and_left_out_only_when_asked(tmp_path: Path) -> None:
    lines = frame(latency=1.0).to_csv(index=False).splitlines()
    lines[3] = "nonsense,0.5,1"
    lines[5] = f"{TEXTS[4]},,1"
    lines[7] = f"{TEXTS[6]},0.5"
    lines[8] = f"{TEXTS[7]},inf,1"
    lines[9] = f"{TEXTS[8]},0.5,soon"
    file = tmp_path / "scores.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(DataError) as refused:
        imported(file)
    told = str(refused.value)
    assert f"{file}: 5 bad rows: line 4: " in told
    assert "line 6: accuracy is '', expected a number; line 8: 2 cells, the header has 3" in told
    assert told.endswith("(and 2 more); skip_bad=True leaves them out")
    assert not (tmp_path / "tables").exists()
    table, notes = imported(file, OwnTable("accuracy", skip_bad=True))
    kept = [text for place, text in enumerate(TEXTS) if place not in (2, 4, 6, 7, 8)]
    assert [SPACE.format(a) for a in table.architectures] == kept
    assert notes[0].startswith("left out 5 bad rows: line 4")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("architecture\n[]1\n", "no column is called 'accuracy'"),
        ("arch,accuracy\n[]1,0.5\n", "'architecture'; known are accuracy, arch; --architecture"),
        ("architecture,accuracy,accuracy\n", "two columns are called 'accuracy'"),
        ("architecture,accuracy\n[]1,0.5\n", "1 architectures, a table needs at least 2"),
        ("architecture,accuracy\n", "0 architectures"),
        ("architecture,accuracy\n[]1,0.5\0\n", "line 2 holds a zero byte"),
        ("architecture,accuracy,a b,a-b\n[]1,1,1,1\n[3]11/1,2,2,2\n", "would be called 'a_b'"),
        ("PAR1 and nothing else", "cannot be read as parquet"),
    ],
)
def test_what_is_no_such_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(text)
    with pytest.raises(DataError) as refused:
        imported(file)
    assert words in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "tables").exists()


def test_no_text_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a,b\n\xff\xfe\n")
    with pytest.raises(DataError, match="byte 4 is no UTF-8"):
        read_columns(tmp_path / "x")
    with pytest.raises(DataError, match="is not a file"):
        read_columns(tmp_path)


def test_an_attribute_has_one_value_for_each_architecture(tmp_path: Path) -> None:
    asked = OwnTable("accuracy", attributes=("latency",))
    twice = pd.concat([frame(latency=1.0), frame(latency=2.0)])
    for broken, words in [
        (twice, "has 1 and 2"),
        (frame(latency=[1.0] * 4 + [np.nan] * (len(CELLS) - 4)), "has nothing and nothing"),
        (frame(), "'latency' is no further column of numbers"),
    ]:
        broken.to_csv(tmp_path / "scores.csv", index=False)
        with pytest.raises(DataError, match=words):
            imported(tmp_path / "scores.csv", asked)


def test_lines_are_those_of_the_file() -> None:
    found = parse_columns('\na,b\n1,"x\ny"\n\n2\n3,z\n', "t")
    assert found.cells == {"a": ["1", "3"], "b": ["x\ny", "z"]}
    assert found.lines == [4, 7]
    assert found.broken == {6: "1 cells, the header has 2"}


def test_groups_by_hand() -> None:
    population = SPACE.population([CELLS[2], CELLS[0], CELLS[2], CELLS[1], CELLS[0]])
    first, group = grouped(population)
    assert first.tolist() == [0, 1, 3]
    assert group.tolist() == [0, 1, 0, 2, 1]


def test_labels_are_averaged(tmp_path: Path) -> None:
    both = pd.concat([frame(), frame().assign(accuracy=SCORES + 0.2)])
    both.to_csv(tmp_path / "scores.csv", index=False)
    found = read_measured(tmp_path / "scores.csv", SPACE, "accuracy")
    architectures, means = found.averaged()
    np.testing.assert_array_equal(architectures.codes, CELLS.codes)
    np.testing.assert_allclose(means, SCORES + 0.1)
