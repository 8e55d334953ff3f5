"""Real trainings as measurements: pure, resumable, stopped early, failures kept as failures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.pruners import MedianPruner

from nasplatform.config import SearchOptions
from nasplatform.errors import BuildError, ConfigError
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.trained import TrainedEvaluator, TrainedOptions
from nasplatform.executors.store import open_store
from nasplatform.runtimes.onnx_runtime import OnnxRuntime
from nasplatform.search import OptimizationConfig, TrialRecord, search
from nasplatform.search.random_sampler import RandomSampler
from nasplatform.spaces import get_space
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.evaluation import evaluate as accuracy_of
from nasplatform.training.loop import train
from nasplatform.training.seeding import seeded
from nasplatform.training.task import cross_entropy

CELL = "[3M1]1011/110/01/1"
RECIPE = {"epochs": 3, "batch_size": 16}


def evaluator(folder: Path | None = None, **options: Any) -> TrainedEvaluator:
    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
    chosen = TrainedOptions.model_validate({"recipe": RECIPE, **options})
    found = TrainedEvaluator.from_options(chosen, space, EvaluationContext(folder, tiny_task()))
    assert isinstance(found, TrainedEvaluator)
    return found


def test_measures_the_same_twice_and_otherwise_with_another_seed() -> None:
    one, again, other = evaluator(), evaluator(), evaluator()
    cell = one.space.parse(CELL)
    first = one.evaluate(cell, 3, 0)
    torch.rand(3)
    second = again.evaluate(cell, 3, 0)
    assert first.score == second.score
    assert first.metrics == second.metrics
    assert first.metrics["train_loss"] != other.evaluate(cell, 3, 1).metrics["train_loss"]
    assert first.score == first.metrics["valid_accuracy"]
    with seeded(0):
        module = one.space.build(cell)
    history = train(module, one.data, one.options.recipe, 0)
    assert first.score == history.epochs[-1].valid_accuracy
    assert first.metrics["train_loss"] == history.epochs[-1].train_loss
    assert first.metrics["test_accuracy"] == accuracy_of(module, one.data, "test")
    assert first.seconds > 0
    assert first.stopped is None


def test_the_space_is_fitted_to_the_data_and_the_recipe_is_part_of_the_key() -> None:
    one = evaluator()
    assert one.space.options.input_shape == (1, 8, 8)
    assert one.space.options.classes == 3
    assert one.attributes(one.space.population([one.space.parse(CELL)]))["params"][0] > 0
    assert evaluator(recipe={**RECIPE, "weight_decay": 0.0}).task != one.task


def test_a_broken_off_training_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    whole = evaluator(tmp_path / "whole")
    cell = whole.space.parse(CELL)
    wanted = whole.evaluate(cell, 3, 0)

    class Killed(BaseException):
        pass

    def kill(done: int, total: int, words: str) -> None:
        if words.startswith("epoch 3"):
            raise Killed

    broken = evaluator(tmp_path / "broken")
    broken.context = EvaluationContext(tmp_path / "broken", tiny_task(), progress=kill)
    with pytest.raises(Killed):
        broken.evaluate(cell, 3, 0)
    epochs: list[str] = []
    resumed = evaluator(tmp_path / "broken")
    resumed.context = EvaluationContext(
        tmp_path / "broken", tiny_task(), progress=lambda d, t, words: epochs.append(words[:7])
    )
    found = resumed.evaluate(cell, 3, 0)
    assert set(epochs) == {"epoch 3"}
    assert found.metrics == wanted.metrics
    assert found.seconds == pytest.approx(sum(found.curve["seconds"]))
    for column in ("epoch", "train_loss", "valid_accuracy", "learning_rate"):
        assert len(found.curve[column]) == 3
        assert found.curve[column] == wanted.curve[column]
    assert found.curve["valid_accuracy"][-1] == found.score


def test_a_damaged_checkpoint_is_thrown_away(tmp_path: Path) -> None:
    one = evaluator(tmp_path)
    cell = one.space.parse(CELL)
    wanted = one.evaluate(cell, 3, 0)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"rubbish")
    assert evaluator(tmp_path).evaluate(cell, 3, 0).metrics == wanted.metrics


def test_only_the_latest_checkpoint_is_kept_unless_asked(tmp_path: Path) -> None:
    for keep, left in ((False, 1), (True, 3)):
        one = evaluator(tmp_path / str(keep), keep=keep, recipe={"epochs": 1, "batch_size": 16})
        for cell in one.space.neighbours([one.space.parse(CELL)])[:3]:
            one.evaluate(cell, 1, 0)
        assert len(list((tmp_path / str(keep)).glob("*.safetensors"))) == left


def test_what_is_reported_as_hopeless_is_given_up() -> None:
    one = evaluator()
    cell = one.space.parse(CELL)
    heard: list[tuple[int, float]] = []

    def report(epochs: int, score: float) -> bool:
        heard.append((epochs, score))
        return epochs == 2

    found = one.evaluate_reporting(cell, 3, 0, report)
    assert [epochs for epochs, _ in heard] == [1, 2]
    assert (found.stopped, found.score) == (2, heard[-1][1])


def test_a_training_that_diverges_leaves_its_curve_so_far() -> None:
    def diverging(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batches.append(len(labels))
        factor = float("nan") if len(batches) == 5 else 1.0
        return factor * cross_entropy(logits, labels)

    batches: list[int] = []
    one = evaluator()
    one.data = replace(one.data, loss=diverging)
    found = one.evaluate(one.space.parse(CELL), 3, 0)
    assert "at step 5 of 9" in str(found.error)
    assert found.curve["epoch"] == [1]


def test_a_training_that_diverges_is_a_failure_with_a_reason() -> None:
    one = evaluator(recipe={**RECIPE, "learning_rate": 1e30})
    found = one.evaluate(one.space.parse(CELL), 3, 0)
    assert math.isnan(found.score)
    assert found.error is not None
    assert "learning_rate 1e+30 is too high" in found.error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_is_a_failure_too(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    one = evaluator()
    monkeypatch.setattr("nasplatform.evaluators.trained.train", fail)
    found = one.evaluate(one.space.parse(CELL), 3, 0)
    assert found.error == "out of memory on cpu"


def test_any_other_error_of_torch_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("shapes do not match")

    one = evaluator()
    monkeypatch.setattr("nasplatform.evaluators.trained.train", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        one.evaluate(one.space.parse(CELL), 3, 0)


def test_shorter_trainings_and_latency() -> None:
    one = evaluator(fidelities=[1], latency=True)
    assert one.fidelities == (1, 3)
    assert "latency_ms" in one.metrics()
    assert one.evaluate(one.space.parse(CELL), 1, 0).metrics["latency_ms"] > 0


def test_latencies_of_a_search_are_of_one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the name of what is measured says; a network that it cannot compute has none."""
    one = evaluator(latency=True)
    assert "+latency:onnxruntime/" in one.task

    def refuse(*_: object) -> None:
        raise BuildError("no words for it")

    monkeypatch.setattr(OnnxRuntime, "compile", refuse)
    assert "+latency:torch/" in evaluator(latency=True).task
    found = one.evaluate(one.space.parse(CELL), 1, 0)
    assert found.error == "no latency: onnxruntime was not used: no words for it"


def test_loss_and_metric_of_the_task_count() -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.multi_margin_loss(logits, labels)

    def metric(logits: torch.Tensor, labels: torch.Tensor) -> float:
        return float(logits[torch.arange(len(labels)), labels].mean())

    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
    options = TrainedOptions.model_validate({"recipe": RECIPE})
    usual, other = (
        TrainedEvaluator(options, space, EvaluationContext(None, task))
        for task in (tiny_task(), replace(tiny_task(), loss=loss, metric=metric))
    )
    cell = usual.space.parse(CELL)
    found, plain = other.evaluate(cell, 1, 0), usual.evaluate(cell, 1, 0)
    assert found.metrics["train_loss"] != plain.metrics["train_loss"]
    assert not 0 <= found.score * 30 == round(found.score * 30)  # no share of 30 images
    assert found.metrics["test_accuracy"] != plain.metrics["test_accuracy"]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"precision": "float16"}, "'trained': precision float16 needs a CUDA device"),
        ({"randaugment": {}}, "'trained': randaugment needs images stored with 8 bits"),
    ],
)
def test_impossible_recipes_are_refused_before_a_search(recipe: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluator(recipe=RECIPE | recipe)


@pytest.mark.parametrize("fidelities", [[3], [2, 1], [0, 1]])
def test_impossible_fidelities(fidelities: list[int]) -> None:
    with pytest.raises(ValueError, match="fidelities"):
        evaluator(fidelities=fidelities)


def test_needs_a_task_and_the_device_it_is_told() -> None:
    space = get_space("nasbench101")
    with pytest.raises(ConfigError, match="'trained' trains networks: it needs a task"):
        TrainedEvaluator.from_options(TrainedOptions(), space, EvaluationContext())
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda': this machine offers no CUDA device"):
            TrainedEvaluator.from_options(
                TrainedOptions(), space, EvaluationContext(None, tiny_task(), "cuda")
            )


def test_a_search_with_pruning_and_a_limit_on_parameters(tmp_path: Path) -> None:
    recipe = {"epochs": 4, "batch_size": 24, "learning_rate": 0.01}
    one = evaluator(tmp_path / "work", recipe=recipe)
    optimization = OptimizationConfig.of(
        SearchOptions(budget=100, constraints={"max_params": 3000}), one
    )
    sampler = RandomSampler(one.space, optimization=optimization)
    study = optuna.create_study(
        sampler=sampler, direction="maximize", pruner=MedianPruner(3, n_warmup_steps=0)
    )
    with open_store(tmp_path / "m.db") as store:
        search(study, one, store, 12, optimization=optimization)
    records = [TrialRecord.of(trial) for trial in study.get_trials()]
    known = [each for each in records if each is not None]
    assert all(each.attributes["params"] <= 3000 for each in known)
    assert any(each.stopped is not None for each in known)
    assert sum(each.counts for each in known) >= 3
