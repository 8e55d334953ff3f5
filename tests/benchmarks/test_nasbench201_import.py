import bz2
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nasplatform.benchmarks.imports.nasbench201 import import_nasbench201
from nasplatform.benchmarks.table import read_table
from nasplatform.errors import DataError
from nasplatform.spaces import get_space

DATA = os.environ.get("NASPLATFORM_DATA")
SPACE = get_space("nasbench201")
EVALUATIONS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("ori-test", "x-valid", "x-test"),
    "ImageNet16-120": ("ori-test", "x-valid", "x-test"),
}
SEEDS = {"12": (111,), "200": (999, 777, 888)}  # in the archive they are in no order
CELLS = ("334131", "000000", "111111", "243043")


def percent(text: str, dataset: str, epochs: str, seed: int, evaluation: str) -> float:
    """Return an accuracy that depends on everything that it should depend on."""
    number = int(text, 5) + 31 * len(dataset) + 7 * int(epochs) + seed + 3 * len(evaluation)
    return number % 9973 / 100


def record(text: str) -> OrderedDict:
    """Return a cell's record as the archive's authors write it."""
    graphs = SPACE.graphs([SPACE.parse(text)])
    name = SPACE.format(SPACE.parse(text))
    sets = OrderedDict()
    for epochs, seeds in SEEDS.items():
        runs = {}
        for seed in seeds:
            for dataset, evaluations in EVALUATIONS.items():
                accuracies = {
                    f"{evaluation}@{int(epochs) - 1}": percent(
                        text, dataset, epochs, seed, evaluation
                    )
                    for evaluation in evaluations
                }
                runs[dataset, seed] = {
                    "name": dataset,
                    "train_times": OrderedDict((e, 2.5) for e in range(int(epochs))),
                    "arch_config": {"channel": 16, "num_cells": 5, "arch_str": name},
                    "params": np.float64(graphs.total_params[0] / 1e6),
                    "flop": float(graphs.total_flops[0] // 2 + 10) / 1e6,
                    "seed": f"{seed:04d}",
                    "epochs": int(epochs),
                    "latency": [0.01, 0.02] if seed != 888 else None,
                    "eval_names": list(evaluations),
                    "eval_acc1es": accuracies,
                    "net_state_dict": None,
                }
        sets[epochs] = {
            "arch_index": 0,
            "arch_str": name,
            "all_results": runs,
            "dataset_seed": {dataset: list(seeds) for dataset in EVALUATIONS},
            "clear_net_done": True,
        }
    return sets


def write(folder: Path, index: int, value: object, protocol: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{index:06d}.pickle.pbz2"
    file.write_bytes(bz2.compress(pickle.dumps(value, protocol=protocol)))
    return file


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nats") / "NATS-tss-v1_0-3ffb9-simple"
    for index, text in enumerate(CELLS):
        write(folder, index, record(text), protocol=2 + index % 4)
    texts = {"meta_archs": [SPACE.format(SPACE.parse(text)) for text in CELLS]}
    (folder / "meta.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(texts)))
    return folder


def test_archive_becomes_a_table(archive, tmp_path):
    seen = []
    path = import_nasbench201(archive, tmp_path, lambda done, total: seen.append((done, total)))
    table = read_table(path)
    assert (table.name, table.fidelities, len(table), table.seeds) == (
        "nasbench201",
        (12, 200),
        len(CELLS),
        3,
    )
    assert table.card["complete"] is False
    assert seen[0] == (0, 4)
    assert seen[-1] == (4, 4)
    expected = {
        "c10_valid_accuracy": ("cifar10-valid", "x-valid"),
        "c10_test_accuracy": ("cifar10", "ori-test"),
        "c100_valid_accuracy": ("cifar100", "x-valid"),
        "c100_test_accuracy": ("cifar100", "x-test"),
        "in16_valid_accuracy": ("ImageNet16-120", "x-valid"),
        "in16_test_accuracy": ("ImageNet16-120", "x-test"),
    }
    assert set(table.metrics) == {*expected, "seconds"}
    for metric, (dataset, evaluation) in expected.items():
        for row, text in enumerate(CELLS):
            for f, epochs in enumerate(("12", "200")):
                values = [
                    percent(text, dataset, epochs, seed, evaluation) / 100
                    for seed in sorted(SEEDS[epochs])
                ]
                values += [np.nan] * (3 - len(values))
                np.testing.assert_allclose(table.measurements[metric][row, f], values, rtol=1e-6)
    np.testing.assert_allclose(table.values("seconds"), 500.0)
    np.testing.assert_allclose(table.attributes["c10_latency_ms"], 15.0)
    graphs = SPACE.graphs([SPACE.parse(text) for text in CELLS])
    np.testing.assert_array_equal(table.attributes["params"], graphs.total_params)
    np.testing.assert_array_equal(table.attributes["flops"], graphs.total_flops)


def test_workers_read_the_same(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("nasplatform.benchmarks.imports.natsbench._CELLS_PER_JOB", 2)
    one = import_nasbench201(archive, tmp_path / "one")
    two = import_nasbench201(archive, tmp_path / "two", workers=2)
    assert one.read_bytes() == two.read_bytes()


def test_a_wrong_statement_among_right_ones_is_passed_over(tmp_path):
    """Some trainings of the archive carry the costs of another cell."""
    value = record("334131")
    value["200"]["all_results"]["cifar10", 777]["flop"] = 1.0
    write(tmp_path / "in", 0, value)
    assert len(read_table(import_nasbench201(tmp_path / "in", tmp_path / "out"))) == 1


def _refuse(folder: Path, message: str) -> None:
    out = folder.parent / "out"
    with pytest.raises(DataError, match=message) as caught:
        import_nasbench201(folder, out)
    assert "\n" not in str(caught.value)
    assert not out.exists() or not list(out.iterdir())


def _without(*keys):
    value = record("334131")
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return value


def _with(new, *keys):
    value = record("334131")
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = new
    return value


RUN = ("200", "all_results", ("cifar10", 888))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "no entry '12'"),
        (_without("200"), "no entry '200'"),
        (_without("200", "arch_str"), "no entry 'arch_str'"),
        (_with("|x~0|", "12", "arch_str"), "two architectures in one record"),
        (_with({"cifar10": 1}, "200", "all_results"), "filed under 'cifar10'"),
        (_with(101.0, *RUN, "eval_acc1es", "ori-test@199"), "is 101.0, expected percent"),
        (_with(np.nan, *RUN, "eval_acc1es", "ori-test@199"), "is nan, expected percent"),
        (_without(*RUN, "eval_acc1es", "ori-test@199"), "no entry 'ori-test@199'"),
        (_with("many", *RUN, "params"), "entry 'params' is a str"),
        (_with(True, *RUN, "flop"), "entry 'flop' is a bool"),
        (_with(["slow"], "200", "all_results", ("cifar100", 777), "latency"), "latency"),
        (_with({0: "slow"}, "200", "all_results", ("cifar10-valid", 777), "train_times"), "str"),
    ],
)
def test_strange_records_are_refused(tmp_path, value, message):
    write(tmp_path / "in", 0, value)
    _refuse(tmp_path / "in", message)


def test_a_record_without_trainings_is_refused(tmp_path):
    value = record("334131")
    value["12"]["all_results"] = value["200"]["all_results"] = {}
    write(tmp_path / "in", 0, value)
    _refuse(tmp_path / "in", "no training on CIFAR-10")


def test_other_costs_are_refused(tmp_path):
    value = record("334131")
    for epochs in SEEDS:
        for run in value[epochs]["all_results"].values():
            run["params"] = 0.8
    write(tmp_path / "in", 0, value)
    _refuse(tmp_path / "in", "800000 and 113951370 parameters and multiply-adds, expected 802426")


def test_repeated_cells_are_refused(tmp_path):
    for index in range(2):
        write(tmp_path / "in", index, record("334131"))
    _refuse(tmp_path / "in", "is there 2 times")


def test_damaged_files_are_refused(archive, tmp_path):
    whole = (archive / "000000.pickle.pbz2").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    file = folder / "000000.pickle.pbz2"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-10], whole[: len(whole) // 2], bytes(flipped), b"", b"no bzip2"):
        file.write_bytes(damaged)
        _refuse(folder, "cannot be unpacked as bzip2")


def test_what_is_no_benchmark_is_refused(tmp_path):
    _refuse(tmp_path / "nowhere", "neither a file nor a folder")
    (tmp_path / "empty").mkdir()
    _refuse(tmp_path / "empty", "has no files such as 000000.pickle.pbz2")
    text = tmp_path / "text"
    text.write_text("no parquet")
    _refuse(text, "cannot be read as parquet")
    pq.write_table(pa.table({"arch": ["|none~0|"]}), tmp_path / "other.parquet")
    _refuse(tmp_path / "other.parquet", "has no column")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("nasplatform.benchmarks.imports.natsbench._LARGEST", 1 << 16)
    write(tmp_path / "in", 0, b"0" * (1 << 20))
    _refuse(tmp_path / "in", "more than")


@pytest.fixture(scope="module")
def published():
    if not DATA:
        pytest.skip("NASPLATFORM_DATA is not set: the published measurements are not at hand")
    return Path(DATA) / "nb201.parquet"


def test_published_file_becomes_a_table(published, tmp_path):
    table = read_table(import_nasbench201(published, tmp_path))
    frame = pq.read_table(published).to_pandas()
    assert len(table) == 15_625
    assert table.card["complete"] is True
    for metric, epochs, column in (
        ("c10_valid_accuracy", 200, "c10_valid_e200"),
        ("c10_test_accuracy", 200, "c10_test_e200"),
        ("c100_test_accuracy", 200, "c100_test_e200"),
        ("c10_valid_accuracy", 12, "c10_valid_e12"),
    ):
        np.testing.assert_allclose(table.values(metric, epochs), frame[column] / 100, rtol=1e-6)
    assert np.isnan(table.values("c100_valid_accuracy", 200)).all()
    assert round(100 * table.values("c10_test_accuracy").max(), 2) == 94.37
    assert round(100 * table.values("c100_test_accuracy").max(), 2) == 73.51
    np.testing.assert_array_equal(table.attributes["params"], frame.params_c10)
    np.testing.assert_array_equal(table.attributes["flops"], 2 * frame.macs_c10)
    edge = table.attributes["c10_edgetpu_latency_ms"]
    assert np.isnan(edge).sum() == (frame.hw_c10_edgetpu_latency == -1).sum() == 4699
    assert np.nanmin(edge) > 0
    assert np.isnan(table.attributes["zc_c10_nwot"]).sum() == 15_625 - 9_445 + 1
    assert len(np.unique(table.attributes["iso_class"])) == 6_466


def test_a_cell_and_its_twin_have_rows_of_their_own(published, tmp_path):
    table = read_table(import_nasbench201(published, tmp_path))
    space, every = table.space, table.architectures
    _, first, counts = np.unique(every.keys, return_index=True, return_counts=True)
    for row in first[counts > 1][:50]:
        twins = np.flatnonzero(every.keys == every.keys[row])
        assert [table.row(every[int(twin)]) for twin in twins] == twins.tolist()
        assert [table.row(space.parse(space.format(every[int(t)]))) for t in twins] == list(twins)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="c10_test_e200"), "has no column 'c10_test_e200'"),
        (lambda f: f.head(100), "has 100 rows, expected all 15625"),
        (lambda f: f.assign(arch=f.arch[0]), "is there 15625 times"),
        (lambda f: f.assign(arch="none"), "cell 0: expected six digits"),
        (lambda f: f.assign(params_c10=f.params_c10 + 1), "cell 0 has 129307 and 15647360"),
        (lambda f: f.assign(iso_class=0), "isomorphism classes"),
        (lambda f: f.assign(c10_test_e200=-1.0), "row 1: c10_test_e200 is -1.0, expected percent"),
        (lambda f: f.assign(c10_test_e200="x"), "column 'c10_test_e200' has type"),
    ],
)
def test_another_file_is_refused(published, tmp_path, change, message):
    frame = change(pq.read_table(published).to_pandas())
    file = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pandas(frame), file)
    _refuse(file, message)
