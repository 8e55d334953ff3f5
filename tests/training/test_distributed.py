"""Several processes that train one network: the loss curve of one, whatever they share it into."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasplatform.errors import TrainingError
from nasplatform.evaluators.trained import TrainedEvaluator
from nasplatform.spaces import get_space
from nasplatform.training.datasets import load_task
from nasplatform.training.distributed import check_processes
from nasplatform.training.loop import History, train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import seeded

RECIPE = Recipe(epochs=2, batch_size=250, augmentation="flip-crop", learning_rate=0.02)


def network() -> nn.Module:
    """Build a network with batch normalisation, of which the statistics matter."""
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
            nn.Linear(512, 10), nn.BatchNorm1d(10),
        )  # fmt: skip


def trained(processes: int, **options: Any) -> tuple[nn.Module, History]:
    module = network()
    task = load_task("digits", {}, "task")
    return module, train(module, task, RECIPE, 0, processes=processes, **options)


def test_the_curve_is_that_of_one_process() -> None:
    """Batches do not divide evenly: the last rows are one more for the first of three."""
    (one, alone), (three, together) = trained(1), trained(3)
    for ours, theirs in zip(alone.epochs, together.epochs, strict=True):
        assert theirs.train_loss == pytest.approx(ours.train_loss, rel=1e-4)
        assert theirs.valid_accuracy == pytest.approx(ours.valid_accuracy, abs=0.01)
    for (name, ours), theirs in zip(
        one.state_dict().items(), three.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(theirs, ours, rtol=2e-2, atol=2e-3, msg=name)
    assert [type(layer) for layer in one] == [
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Flatten, nn.Linear, nn.BatchNorm1d,
    ]  # fmt: skip


def test_without_shared_statistics_the_curve_would_be_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nasplatform.training.distributed._synchronised", lambda kind: kind)
    (_, alone), (_, together) = trained(1), trained(2)
    assert together.epochs[0].train_loss != pytest.approx(alone.epochs[0].train_loss, rel=1e-4)


def test_it_is_stopped_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    whole, _ = trained(2)
    _, first = trained(2, checkpoint=checkpoint, on_epoch=lambda epoch: True)
    assert len(first.epochs) == 1
    again, both = trained(2, checkpoint=checkpoint)
    assert len(both.epochs) == 2
    for ours, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_no_process_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[int] = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: forked.append(fork()) or forked[-1])
    with pytest.raises(KeyError, match="of the watcher"):
        trained(2, on_epoch=_raise)
    for child in forked:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def _raise(_: object) -> bool:
    raise KeyError("of the watcher")


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"200 are too many for batches of 250 images"):
        trained(200)
    with pytest.raises(TrainingError, match="on CPUs"):
        check_processes(2, "cuda:0", 64)


def test_an_evaluator_that_asks_for_it_measures_the_same() -> None:
    from nasplatform.evaluators.base import EvaluationContext

    space = get_space("nasbench101", stem_channels=4, modules_per_stack=1)
    context = EvaluationContext(task=load_task("digits", {}, "task"))
    scores = []
    for processes in (1, 2):
        options = TrainedEvaluator.Options(recipe=RECIPE, processes=processes)
        evaluator = TrainedEvaluator(options, space, context)
        found = evaluator.evaluate(evaluator.space.parse("[333]1101/110/10/1"), 2, 0)
        scores.append((evaluator.task, found.metrics["train_loss"]))
    assert scores[0][0] == scores[1][0]
    assert scores[1][1] == pytest.approx(scores[0][1], rel=1e-3)
