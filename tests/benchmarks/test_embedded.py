"""Builds of tables: resumed after a kill, in parallel, and what they refuse."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasplatform.benchmarks import cellnet
from nasplatform.benchmarks.embedded import (
    SETUPS,
    CellGroup,
    CellKernel,
    SampleGroup,
    Setup,
    TrainingLoop,
    build,
    get_setup,
)
from nasplatform.benchmarks.table import BenchmarkTable, read_table
from nasplatform.errors import DataError
from nasplatform.spaces import get_space
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded

TINY = Setup(
    name="tiny",
    dataset="digits",
    options={"noise": 1.0, "seed": 0},
    space=SETUPS["cells-digits"].space,
    trainer=CellKernel(cellnet.Recipe(epochs=1, evaluate_at=(1,))),
    groups=(CellGroup((2, 3), seeds=2), CellGroup((4, 4), seeds=1, sample=20)),
    licence="none",
)
PARTS = 4  # 7 cells of 2 and 3 vertices in one, 20 others in three
BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_embedded import TINY
from nasplatform.benchmarks.embedded import build
build(TINY, Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTable:
    """Build the tiny table in one go, in this process."""
    told: list[tuple[int, int]] = []
    folder = tmp_path_factory.mktemp("whole")
    path = build(TINY, folder, progress=lambda *where: told.append(where))
    assert told == [(n, PARTS) for n in range(PARTS + 1)]
    assert sorted(p.name for p in folder.iterdir()) == ["tiny.json", "tiny.parquet"]
    return read_table(path)


def assert_same(found: BenchmarkTable, expected: BenchmarkTable) -> None:
    """Equal to the last bit, but for the seconds, which are measured."""
    assert found.architectures.labels.tolist() == expected.architectures.labels.tolist()
    assert found.measurements.keys() == expected.measurements.keys()
    for metric, values in expected.measurements.items():
        if metric != "seconds":
            assert np.array_equal(found.measurements[metric], values, equal_nan=True), metric
    assert _made(found.card) == _made(expected.card)


def _made(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says that does not depend on how long the trainings took."""
    correlation = {k: v for k, v in card["correlation"].items() if k != "seconds"}
    return {**card, "correlation": correlation, "sha256": None}


def test_the_table_holds_what_was_trained(whole: BenchmarkTable) -> None:
    assert len(whole) == 27
    small = enumerate_cells(3).labels.tolist()
    assert whole.architectures.labels[:7].tolist() == small
    valid = whole.measurements["valid_accuracy"]
    assert np.isfinite(valid[:7]).all()
    assert np.isfinite(valid[7:, :, 0]).all()
    assert np.isnan(valid[7:, :, 1]).all()  # one seed for the larger ones
    task = load_task(TINY.dataset, dict(TINY.options), "tiny")
    for row, seed in ((3, 1), (20, 0)):
        (alone,) = TINY.trainer.train(whole.space, whole.architectures[row], task, seed)
        assert alone["valid_accuracy"] == valid[row, 0, seed]
        assert alone["test_accuracy"] == whole.measurements["test_accuracy"][row, 0, seed]
    assert (valid[:7, 0, 0] != valid[:7, 0, 1]).any()  # the seeds are different trainings
    assert whole.card["dataset"] == {"name": "digits", "noise": 1.0, "seed": 0}
    assert whole.card["command"] == "nasplatform data build tiny"


def test_two_workers_give_the_same(whole: BenchmarkTable, tmp_path: Path) -> None:
    assert_same(read_table(build(TINY, tmp_path, workers=2)), whole)


def test_a_killed_build_goes_on(whole: BenchmarkTable, tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", BUILD, here, str(tmp_path)])
    work = tmp_path / ".build-tiny"
    deadline = time.monotonic() + 120
    while not list(work.glob("0*.npy")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "tiny.parquet").exists()
    kept = {int(part.stem): np.load(part) for part in work.glob("0*.npy")}
    assert 0 < len(kept) < PARTS
    told: list[tuple[int, int]] = []
    table = read_table(build(TINY, tmp_path, progress=lambda *where: told.append(where)))
    assert told[0] == (len(kept), PARTS)  # what was paid for is not paid again
    assert_same(table, whole)
    first = kept[0]["seconds"].transpose(0, 2, 1)
    assert np.array_equal(table.measurements["seconds"][:7], first)
    assert not work.exists()


def test_parts_of_another_setup_are_not_mixed_in(tmp_path: Path) -> None:
    work = tmp_path / ".build-tiny"
    work.mkdir()
    (work / "setup.json").write_text(json.dumps({"other": 1}))
    with pytest.raises(DataError, match="holds parts of another set-up; remove it"):
        build(TINY, tmp_path)


def test_setups_by_name() -> None:
    assert get_setup("cells-digits") is SETUPS["cells-digits"]
    with pytest.raises(DataError, match="did you mean 'cells-fashion'"):
        get_setup("cells-fashio")


def test_groups_are_disjoint_and_samples_repeat() -> None:
    setup = SETUPS["cells-digits"]
    space = setup.make_space()
    small, large = (group.draw(space) for group in setup.groups)
    assert len(small) == 1 + 6 + 84 + 2441
    assert len(large) == 5000
    assert setup.groups[1].draw(space).codes.tolist() == large.codes.tolist()
    every = np.concatenate([small.keys, large.keys])
    assert len(np.unique(every)) == len(every)


LOOP = Setup(
    name="loop",
    dataset="digits",
    options={"noise": 1.0, "seed": 0},
    space={
        "name": "macro-chain",
        "input_shape": (1, 8, 8),
        "stem_channels": 4,
        "widths": ((4, 8),),
        "strides": ((1, 2),),
        "max_depth": 2,
        "kernels": (3,),
        "expansions": (1, 2),
    },
    trainer=TrainingLoop(Recipe(epochs=2), evaluate_at=(1, 2)),
    groups=(SampleGroup(9, seeds=2),),
    licence="none",
)


@pytest.mark.slow
def test_any_space_is_trained_by_the_ordinary_loop(tmp_path: Path) -> None:
    table = read_table(build(LOOP, tmp_path / "one"))
    assert len(table) == len(np.unique(table.architectures.keys)) == 9
    assert table.fidelities == (1, 2)
    assert np.isfinite(table.measurements["valid_accuracy"]).all()
    assert (np.diff(table.measurements["seconds"], axis=1) > 0).all()
    assert list(table.card["ceiling"]) == ["9 architectures, 2 seeds"]
    assert table.card["recipe"]["evaluate_at"] == [1, 2]
    assert_same(read_table(build(LOOP, tmp_path / "two", workers=2)), table)


def test_the_loop_measures_what_a_training_comes_to() -> None:
    """As trained by hand, in the ordinary memory format, to within rounding."""
    space, task = LOOP.make_space(), load_task("digits", dict(LOOP.options), "loop")
    (chain,) = space.sample(1, np.random.default_rng(0))
    records = LOOP.trainer.train(space, chain, task, 1)
    with seeded(1):
        module = space.build(chain)
    history = train(module, task, Recipe(epochs=2), 1)
    losses = [epoch.train_loss for epoch in history.epochs]
    np.testing.assert_allclose(records["train_loss"], losses, rtol=1e-3)
    accuracies = [epoch.valid_accuracy for epoch in history.epochs]
    np.testing.assert_allclose(records["valid_accuracy"], accuracies, atol=0.02)
    assert records["test_accuracy"][-1] == pytest.approx(evaluate(module, task, "test"), abs=0.02)


def test_a_space_that_is_too_small_to_sample_is_refused() -> None:
    with pytest.raises(DataError, match="has no 5000 architectures to sample"):
        SampleGroup(5000, seeds=1).draw(LOOP.make_space())


def test_groups_of_one_sample_follow_each_other() -> None:
    space = get_space("vit", subspace="digits")
    whole = SampleGroup(30, seeds=1).draw(space).codes
    parts = SampleGroup(10, seeds=2, of=30), SampleGroup(20, seeds=1, first=10, of=30)
    np.testing.assert_array_equal(np.concatenate([part.draw(space).codes for part in parts]), whole)
