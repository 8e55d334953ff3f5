"""The store: one row per key, several processes, nothing but facts."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from search_toys import toy_evaluator

from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluation
from nasplatform.search import EvaluationKey, EvaluationStore

KEY = EvaluationKey("space", "task", "hash", 4, 0)


def test_what_was_put_is_found_again_in_another_store(tmp_path: Path) -> None:
    full = Evaluation(0.5, {"loss": 1.25}, 3.0, None, 7)
    with EvaluationStore(tmp_path / "m.db") as store:
        assert store.get(KEY) is None
        assert store.put(KEY, full) == full
    with EvaluationStore(tmp_path / "m.db") as store:
        assert store.get(KEY) == full
        assert len(store) == 1


def test_the_first_measurement_of_a_key_counts(tmp_path: Path) -> None:
    with EvaluationStore(tmp_path / "m.db") as one, EvaluationStore(tmp_path / "m.db") as other:
        assert one.put(KEY, Evaluation(0.5)).score == 0.5
        assert other.put(KEY, Evaluation(0.7)).score == 0.5
        assert len(other) == 1


@pytest.mark.parametrize("field", ["space", "task", "hash", "fidelity", "seed"])
def test_every_part_of_the_key_matters(tmp_path: Path, field: str) -> None:
    changed = {**vars(KEY), field: 9 if field in ("fidelity", "seed") else "other"}
    with EvaluationStore(tmp_path / "m.db") as store:
        store.put(KEY, Evaluation(0.5))
        assert store.get(EvaluationKey(**changed)) is None


def test_a_failure_is_kept_with_its_reason(tmp_path: Path) -> None:
    with EvaluationStore(tmp_path / "m.db") as store:
        store.put(KEY, Evaluation(math.nan, error="out of memory"))
        found = store.get(KEY)
    assert found is not None
    assert math.isnan(found.score)
    assert found.error == "out of memory"


def test_evaluate_measures_once_for_isomorphic_architectures(tmp_path: Path) -> None:
    evaluator = toy_evaluator(log=str(tmp_path / "log"))
    space = evaluator.space
    with EvaluationStore(tmp_path / "m.db") as store:
        one = store.evaluate(evaluator, space.parse("11010000"), 1, 0)
        same = store.evaluate(evaluator, space.parse("00001011"), 1, 0)
    assert one == same
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_two_processes_write_at_once_and_agree(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from nasplatform.evaluators.base import Evaluation\n"
        "from nasplatform.search.store import EvaluationKey, EvaluationStore\n"
        "me, path = float(sys.argv[1]), sys.argv[2]\n"
        "with EvaluationStore(path) as store:\n"
        "    rows = [EvaluationKey('s', 't', str(i), 1, 0) for i in range(200)]\n"
        "    print(*[store.put(row, Evaluation(me)).score for row in rows])\n"
    )
    path = str(tmp_path / "m.db")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, me, path], stdout=subprocess.PIPE, text=True
        )
        for me in ("1", "2")
    ]
    said = [worker.communicate(timeout=100)[0].split() for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    assert said[0] == said[1]  # whoever was first, both were told the same
    with EvaluationStore(path) as store:
        assert len(store) == 200


@pytest.mark.parametrize("content", [b"no database at all, just text", b"SQLite format 3\0 broken"])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content * 100)
    with pytest.raises(RunError, match=r"m\.db: not a store of evaluations"):
        EvaluationStore(path)
