"""The contract of evaluators, on the built-in ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.config import SearchOptions
from nasplatform.errors import ArchitectureError, ConfigError, DataError
from nasplatform.evaluators.base import EvaluationContext, Evaluator
from nasplatform.evaluators.table import TableEvaluator, TableOptions
from nasplatform.evaluators.trained import TrainedEvaluator, TrainedOptions
from nasplatform.search import OptimizationConfig
from nasplatform.spaces import get_space
from nasplatform.testing.evaluators import EvaluatorContract
from nasplatform.testing.tiny import tiny_task


class TestTrained(EvaluatorContract):
    variants = ({"latency": True}, {"fidelities": [1]}, {"recipe": {"epochs": 1}})

    def evaluator(self, folder: Path, **options: Any) -> Evaluator[Any]:
        recipe = {"epochs": 2, "batch_size": 24}
        chosen = TrainedOptions.model_validate({"recipe": recipe, **options})
        space = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
        return TrainedEvaluator.from_options(chosen, space, EvaluationContext(folder, tiny_task()))

    def some(self, evaluator: Evaluator[Any]) -> Any:
        space = evaluator.space
        return space.population([space.parse("[3M]101/10/1"), space.parse("[1]11/1")])


def small_table(folder: Path) -> str:
    """Five cells, two fidelities, two repetitions; the last cell was not measured to the end."""
    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
    cells = space.sample(5, np.random.default_rng(0))
    scores = np.linspace(0.1, 0.9, 20, dtype=np.float32).reshape(5, 2, 2)
    scores[4, 1] = np.nan
    scores[3, 1, 1] = np.nan
    loss = np.where(np.isfinite(scores), 1 - scores, np.nan)
    loss[0] = np.nan  # of a published part of a table not all is known of all
    table = BenchmarkTable(
        "small",
        space,
        cells,
        (4, 12),
        {"valid_accuracy": scores, "train_loss": loss.astype(np.float32)},
        {"watt": np.array([5.0, 4.0, 3.0, 2.0, np.nan]), "params": np.arange(1, 6)},
    )
    save_table(table, folder / "small.parquet")
    return str(folder / "small.parquet")


def table_evaluator(folder: Path, **options: Any) -> TableEvaluator:
    file = folder / "small.parquet"
    chosen = TableOptions(table=str(file) if file.exists() else small_table(folder), **options)
    return TableEvaluator(chosen, TableEvaluator.implied_space(chosen))


class TestTable(EvaluatorContract):
    variants = (
        {"fidelity": 4},
        {"metric": "train_loss"},
        {"seeds": "single"},
        {"seeds": "single", "fidelity": 4},
    )

    def evaluator(self, folder: Path, **options: Any) -> Evaluator[Any]:
        folder.mkdir(exist_ok=True)
        return table_evaluator(folder, **options)


def test_candidates_are_what_was_measured(tmp_path: Path) -> None:
    one = table_evaluator(tmp_path)
    assert one.candidates is not None
    assert len(one.candidates) == 4
    assert one.known_scores() == pytest.approx(
        np.nanmean(one.table.measurements["valid_accuracy"][:4, 1], axis=1)
    )
    with pytest.raises(ArchitectureError, match="has no 'valid_accuracy' at 12 epochs"):
        one.evaluate(one.table.architectures[4], 12, 0)


def test_single_repetitions_are_told_apart_by_the_seed(tmp_path: Path) -> None:
    one = table_evaluator(tmp_path, seeds="single")
    runs = one.table.measurements["valid_accuracy"]
    cell = one.table.architectures[0]
    assert [one.evaluate(cell, 12, seed).score for seed in (0, 1, 2)] == pytest.approx(
        [runs[0, 1, 0], runs[0, 1, 1], runs[0, 1, 0]]
    )
    assert one.evaluate(one.table.architectures[3], 12, 1).score == pytest.approx(runs[3, 1, 0])


def test_attributes_are_the_tables_own(tmp_path: Path) -> None:
    one = table_evaluator(tmp_path)
    assert one.candidates is not None
    found = one.attributes(one.candidates[[2, 0]])
    assert found["watt"].tolist() == [3.0, 5.0]
    assert found["params"].tolist() == [3, 1]
    assert one.attributes(one.candidates)["watt"].tolist() == [5.0, 4.0, 3.0, 2.0]
    assert (found["flops"] > 0).all()


def test_a_limit_on_a_column_of_the_table(tmp_path: Path) -> None:
    one = table_evaluator(tmp_path)
    assert one.candidates is not None
    optimization = OptimizationConfig.of(
        SearchOptions(budget=99, constraints={"max_watt": 3.5}), one
    )
    assert optimization.feasible_mask(one.candidates).tolist() == [False, False, True, True]
    with pytest.raises(ConfigError, match="none of 4 architectures keeps max_watt: 1; watt runs"):
        OptimizationConfig.of(SearchOptions(budget=99, constraints={"max_watt": 1}), one)


def test_another_space_and_an_unknown_metric_are_refused(tmp_path: Path) -> None:
    one = table_evaluator(tmp_path)
    with pytest.raises(DataError, match="was measured in another space: "):
        TableEvaluator(one.options, get_space("nasbench101"))
    with pytest.raises(DataError, match="has no metric 'valid_acuracy'; did you mean"):
        table_evaluator(tmp_path, metric="valid_acuracy")
