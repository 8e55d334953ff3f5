"""Import of NAS-Bench-101: the official format, the measured subset, and whatever is neither."""

import base64
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nasbench101_writer import (
    evaluation,
    measured,
    metrics,
    official_payloads,
    payload,
    varint,
)

from nasplatform.benchmarks.imports import nasbench101
from nasplatform.benchmarks.imports.model_metrics import parse_model_metrics
from nasplatform.benchmarks.imports.nasbench101 import check_bests, import_nasbench101
from nasplatform.benchmarks.table import BenchmarkTable, read_table
from nasplatform.benchmarks.tfrecord import write_records
from nasplatform.errors import DataError
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.spaces.nasbench101 import Cell, Cells, NASBench101, Skeleton
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

CELLS = enumerate_cells(5)[::97]
DATA = Path(os.environ.get("NASPLATFORM_DATA", "missing"))
needs_data = pytest.mark.skipif(
    not (DATA / "nb101_measured.parquet").exists(),
    reason="NASPLATFORM_DATA names no folder with nb101_measured.parquet",
)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    file = tmp_path / "some.tfrecord"
    write_records(file, official_payloads(CELLS, (4, 108)))
    return file


def test_everything_of_the_official_file(official: Path, tmp_path: Path) -> None:
    told = []
    path = import_nasbench101(official, tmp_path / "out", lambda *where: told.append(where))
    assert path == tmp_path / "out" / "nasbench101.parquet"
    table = read_table(path)
    assert table.fidelities == (4, 108)
    assert table.architectures.labels.tolist() == CELLS.labels.tolist()
    expected = measured(CELLS, (4, 108), 3, 0).astype(np.float32)
    for index, metric in enumerate(("valid_accuracy", "test_accuracy", "seconds")):
        assert np.array_equal(table.measurements[metric], expected[..., index])
    graphs = NASBench101(Skeleton()).graphs(CELLS)
    assert np.array_equal(table.attributes["params"], graphs.total_params)
    assert np.array_equal(table.attributes["flops"], graphs.total_flops)
    assert table.card["complete"] is False
    assert table.card["architectures_of_the_whole"] == 423_624
    assert told[0] == (0, 1000)
    assert told[-1] == (1000, 1000)
    assert told == sorted(told)


def test_runs_may_stand_in_any_order_and_be_missing(tmp_path: Path) -> None:
    records = list(official_payloads(CELLS, (4, 108)))
    kept = [record for n, record in enumerate(records) if n not in (0, 5, 6)]
    order = np.random.default_rng(1).permutation(len(kept))
    write_records(tmp_path / "file", [kept[n] for n in order])
    table = read_table(import_nasbench101(tmp_path / "file", tmp_path))
    rows = {code: row for row, code in enumerate(table.architectures.labels.tolist())}
    expected = measured(CELLS, (4, 108), 3, 0)[..., 0].astype(np.float32)
    for row, code in enumerate(CELLS.labels.tolist()):
        found = table.measurements["valid_accuracy"][rows[code]]
        for f in range(2):
            made = found[f][np.isfinite(found[f])]
            assert set(made.tolist()) <= set(expected[row, f].tolist())
    assert np.isfinite(table.measurements["valid_accuracy"]).sum() == len(kept)
    position = {record: n for n, record in enumerate(records)}
    first = next(n for n in (position[kept[k]] for k in order) if n // 6 == 2 and n % 6 >= 3)
    assert table.values("valid_accuracy", 108, 0)[rows[int(CELLS.labels[2])]] == pytest.approx(
        expected[2, 1, first % 3]
    )


def test_a_file_cut_between_records_is_a_partial_table(tmp_path: Path) -> None:
    records = list(official_payloads(CELLS))
    write_records(tmp_path / "file", records[:4])
    table = read_table(import_nasbench101(tmp_path / "file", tmp_path))
    assert len(table) == 2
    assert table.card["complete"] is False
    assert np.isfinite(table.values("valid_accuracy")).all()


@given(st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_never_makes_a_table(official: Path, data: st.DataObject) -> None:
    content = bytearray(official.read_bytes())
    file, out = official.with_name("damaged"), official.with_name("out")
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
    at = data.draw(st.integers(1, len(content) - 2))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        content = content[:at]
    elif kind == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    else:
        if content[at] == content[at + 1]:
            return
        content[at], content[at + 1] = content[at + 1], content[at]
    file.write_bytes(content)
    try:
        table = read_table(import_nasbench101(file, out))
    except DataError:
        assert not list(out.glob("*"))
        return
    assert kind == "cut"  # right behind a record: then what is there is right
    expected = measured(CELLS, (4, 108), 3, 0).astype(np.float32)
    values = table.measurements["test_accuracy"]
    made = np.isfinite(values)
    assert np.array_equal(values[made], expected[: len(table), :, :, 1][made])
    shutil.rmtree(out)


def _first_cell() -> tuple[Cell, int]:
    cell = CELLS[1]
    return cell, int(NASBench101(Skeleton()).graphs(CELLS[1:2]).total_params[0])


def _wrong_records() -> dict[str, tuple[bytes, str]]:
    cell, params = _first_cell()
    good = metrics(108, 1000.0, 0.9, 0.8, params)
    plain = [cell.hash, 108, "01" * 8, "input,output", base64.b64encode(good).decode()]
    two = evaluation(0, 0, 0.1, 0.1, 0.1) * 2 + b"\x10" + varint(params)

    def record(digest: str = cell.hash, message: bytes = good, epochs: int = 108) -> bytes:
        return payload(digest, epochs, cell.matrix, cell.ops, message)

    lower = np.array(cell.matrix).T
    return {
        "no JSON": (b"\xff\x00", "not JSON"),
        "no list": (b'{"a": 1}', "expected \\[hash"),
        "short list": (json.dumps(plain[:4]).encode(), "expected \\[hash"),
        "bool for epochs": (json.dumps([cell.hash, True, *plain[2:]]).encode(), "expected"),
        "no base64": (json.dumps([*plain[:4], "!!!"]).encode(), "cannot be decoded"),
        "no epochs": (record(epochs=0), "0 epochs"),
        "many epochs": (record(epochs=1 << 20), "epochs"),
        "cut metrics": (record(message=good[:-3]), "cannot be decoded"),
        "two evaluations": (record(message=two), "lack an evaluation"),
        "no parameters": (record(message=good[:141]), "number of parameters"),
        "accuracy of 90": (record(message=metrics(108, 1.0, 90.0, 0.8, params)), "in \\[0, 1\\]"),
        "accuracy NaN": (record(message=metrics(108, 1.0, np.nan, 0.8, params)), "in \\[0, 1\\]"),
        "endless": (record(message=metrics(108, np.inf, 0.9, 0.8, params)), "training_time"),
        "other hash": (record(digest="0" * 32), "its matrix is that of"),
        "other parameters": (record(message=metrics(108, 1.0, 0.9, 0.8, 5)), "says 5 parameters"),
        "cycle": (payload(cell.hash, 108, lower, cell.ops, good), "no cell of the space"),
        "other op": (payload(cell.hash, 108, cell.matrix, ["input", "zero"], good), "no cell"),
    }


@pytest.mark.parametrize("kind", _wrong_records())
def test_wrong_records_are_refused_and_named(tmp_path: Path, kind: str) -> None:
    wrong, words = _wrong_records()[kind]
    write_records(tmp_path / "file", [*official_payloads(CELLS[:1]), wrong])
    with pytest.raises(DataError, match=f"file: record 4.*{words}") as caught:
        import_nasbench101(tmp_path / "file", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_contradicting_and_surplus_records(tmp_path: Path) -> None:
    records = list(official_payloads(CELLS[:2]))
    other = CELLS[1]
    lie = payload(CELLS[0].hash, 108, other.matrix, other.ops, metrics(108, 1, 0.5, 0.5, 7))
    write_records(tmp_path / "file", [*records, lie])
    with pytest.raises(DataError, match=r"record 7 .* otherwise than record 1"):
        import_nasbench101(tmp_path / "file", tmp_path)
    write_records(tmp_path / "file", [*records, records[0]])
    with pytest.raises(DataError, match="4 trainings of 108 epochs, expected at most 3"):
        import_nasbench101(tmp_path / "file", tmp_path)
    write_records(tmp_path / "file", [])
    with pytest.raises(DataError, match="neither NAS-Bench-101's TFRecord"):
        import_nasbench101(tmp_path / "file", tmp_path)


def test_a_complete_file_must_have_the_published_bests(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nasbench101, "CELLS", len(CELLS))
    with pytest.raises(DataError, match=r"where 0\.9506 is published"):
        import_nasbench101(official, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    means = measured(CELLS, (4, 108), 3, 0)[:, 1].mean(1).max(0)
    bests = {"valid_accuracy": means[0], "test_accuracy": means[1]}
    monkeypatch.setattr(nasbench101, "BEST", bests)
    assert read_table(import_nasbench101(official, tmp_path / "out")).card["complete"] is True


def test_bests_are_those_of_the_mean() -> None:
    runs = np.full((3, 1, 3), 0.5, np.float32)
    runs[1, 0] = 0.9506
    test = runs - np.float32(0.9506 - 0.9432)
    table = BenchmarkTable(
        "t",
        NASBench101(Skeleton()),
        CELLS[:3],
        (108,),
        {"valid_accuracy": runs, "test_accuracy": test},
    )
    check_bests(table, Path("file"))
    runs[1, 0, 0] += 0.01
    with pytest.raises(DataError, match=r"valid_accuracy is 0\.9539"):
        check_bests(table, Path("file"))


# The wire format of the measurements


@given(
    st.lists(st.tuples(*[st.floats(allow_nan=False)] * 5), max_size=4), st.integers(0, 2**31 - 1)
)
def test_metrics_round_trip(evaluations: list[tuple[float, ...]], params: int) -> None:
    message = b"".join(evaluation(*values) for values in evaluations) + b"\x10" + varint(params)
    found = parse_model_metrics(message)
    assert [tuple(values) for values in found.evaluations] == evaluations
    assert found.trainable_parameters == params


def test_fields_in_any_order_unknown_ones_and_a_path() -> None:
    path = b"\x32\x05/ckpt"
    reordered = b"\x21" + np.float64(0.5).tobytes() + path + b"\x09" + np.float64(4).tobytes()
    message = b"\x10\x07" + b"\x0a" + varint(len(reordered)) + reordered + b"\x45abcd" + b"\x38\x01"
    found = parse_model_metrics(message)
    assert found.trainable_parameters == 7
    (only,) = found.evaluations
    assert (only.current_epoch, only.validation_accuracy) == (4, 0.5)
    assert np.isnan(only.test_accuracy)


@given(st.binary(max_size=80))
def test_noise_is_a_value_error_or_a_message(noise: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_model_metrics(noise).evaluations, list)


# The measured subset


def _measured_frame(cells: Cells) -> pd.DataFrame:
    graphs = NASBench101(Skeleton()).graphs(cells)
    rows = []
    for cell, params in zip(cells, graphs.total_params.tolist(), strict=True):
        matrix, names = np.array(cell.matrix), cell.ops[1:-1]
        upper = matrix[np.triu_indices(len(matrix), k=1)]
        rows.append(
            {
                "hash": cell.hash,
                "n_vertices": len(matrix),
                "adj_bits": sum(int(bit) << k for k, bit in enumerate(upper)),
                "ops": "".join({"conv3": "3", "conv1": "1", "maxpo": "M"}[op[:5]] for op in names),
                "params": params,
            }
        )
    frame = pd.DataFrame(rows)
    for n, name in enumerate(("e4", "e12", "e36", "e108")):
        frame[f"val_acc_{name}_r0"] = np.linspace(0.1, 0.2, len(frame)) + n / 5
    frame["train_time_e108_r0"] = 1000.0
    frame["test_acc_e108_mean3"] = np.where(np.arange(len(frame)) % 2, 0.9, np.nan)
    frame["train_time_e108_mean3"] = np.where(np.arange(len(frame)) % 2, 900.0, np.nan)
    return frame


def test_measured_subset(tmp_path: Path) -> None:
    frame = _measured_frame(CELLS)
    frame.to_parquet(tmp_path / "any_name")
    table = read_table(import_nasbench101(tmp_path / "any_name", tmp_path))
    assert table.name == "nasbench101-measured"
    assert table.architectures.labels.tolist() == CELLS.labels.tolist()
    assert table.values("valid_accuracy", 36, 0) == pytest.approx(frame["val_acc_e36_r0"])
    means = table.values("test_accuracy_mean3", 108)
    assert np.array_equal(np.isfinite(means), np.arange(len(CELLS)) % 2 == 1)
    assert np.isnan(table.values("seconds", 4)).all()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("hash", "0" * 32, "row 3 calls its cell"),
        ("params", 12, "row 3 says 12 parameters"),
        ("ops", "3X", "row 3: ops"),
        ("ops", "3333333", "row 3: ops"),
        ("n_vertices", 9, "row 3: n_vertices"),
        ("adj_bits", 1 << 25, "row 3: n_vertices and adj_bits"),
        ("adj_bits", 0, "row 3: the matrix has vertices that lead nowhere"),
        ("val_acc_e12_r0", 91.5, "row 3: val_acc_e12_r0 is out of range"),
        ("train_time_e108_r0", -1.0, "row 3: train_time_e108_r0"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, column: str, value: object, words: str) -> None:
    frame = _measured_frame(CELLS[:4]).astype({"n_vertices": int})
    frame.loc[2, column] = value
    frame.to_parquet(tmp_path / "file")
    with pytest.raises(DataError, match=words):
        import_nasbench101(tmp_path / "file", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    frame = _measured_frame(CELLS[:4])
    frame.to_parquet(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    files = {
        "half": (content[: len(content) // 2], "cannot be read as parquet"),
        "text": (b"hash,acc\n", "neither NAS-Bench-101's TFRecord"),
        "empty": (b"", "neither"),
    }
    for name, (data, words) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=words) as caught:
            import_nasbench101(tmp_path / name, tmp_path / "out")
        assert "\n" not in str(caught.value)
    frame.drop(columns="adj_bits").to_parquet(tmp_path / "other")
    with pytest.raises(DataError, match="has no column 'adj_bits'"):
        import_nasbench101(tmp_path / "other", tmp_path / "out")
    with pytest.raises(DataError, match="is not a file"):
        import_nasbench101(tmp_path, tmp_path / "out")
    pd.concat([frame, frame[:1]]).to_parquet(tmp_path / "twice")
    with pytest.raises(DataError, match="row 5 repeats an earlier cell"):
        import_nasbench101(tmp_path / "twice", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_data
@pytest.mark.slow
def test_the_real_subset(tmp_path: Path) -> None:
    """Every md5 and every parameter count of 37,336 published cells is the space's own."""
    table = read_table(import_nasbench101(DATA / "nb101_measured.parquet", tmp_path))
    assert len(table) == 37_336
    assert np.isfinite(table.values("valid_accuracy", 108, 0)).sum() == 30_001
    assert np.isfinite(table.values("test_accuracy_mean3", 108)).sum() == 8_484
    options = TableOptions(table=str(tmp_path / "nasbench101-measured.parquet"))
    found = TableEvaluator(options, table.space).evaluate(table.architectures[0], 108, 0)
    assert found.score == pytest.approx(0.930489, abs=1e-6)
    assert found.seconds == pytest.approx(1768.976, abs=1e-3)
    assert found.metrics["params"] == 8_555_530
