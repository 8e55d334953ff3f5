"""The winner's way through the stages, on real digits."""

from pathlib import Path

import pytest
import torch
import yaml

from nasplatform.config import load_config
from nasplatform.errors import InputError
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.runs.driver import run
from nasplatform.runs.events import Event
from nasplatform.runs.experiment import make_experiment
from nasplatform.runs.run import Run
from nasplatform.runs.walk import runtime_words, stage_walk
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate

SEARCH = {
    "name": "digits",
    "evaluator": {"name": "table", "table": "cells-digits"},
    "search": {"sampler": {"name": "random"}, "budget": 5},
    "task": {"dataset": "digits"},
    "stages": [{"name": "train", "recipe": {"epochs": 2}}, {"name": "disout", "start": "given"}],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("stages")
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    return run(file, folder / "run", {"stages.1.recipe.epochs": 1, "runtime": "torch"})


def test_network_on_disk_is_the_one_that_was_measured(finished: Run) -> None:
    task = load_task("digits", {}, "test")
    network = finished.network()
    assert network.structure.base["architecture"] == finished.best["architecture"]
    accuracy = evaluate(network.module, task, "test")
    assert accuracy == pytest.approx(finished.stages["after_accuracy"].iloc[-1])
    assert accuracy > 0.2  # twice what guessing gives
    with torch.inference_mode():
        assert network.module(task.test.inputs[:3]).shape == (3, 10)


def test_stages_are_measured_before_and_after(finished: Run) -> None:
    stages = finished.stages
    assert stages["stage"].tolist() == ["train", "disout"]
    assert stages["before_accuracy"][1] == stages["after_accuracy"][0]
    assert (stages["after_params"] == finished.best["params"]).all()
    assert (2 * stages["after_macs"] <= finished.best["flops"]).all()
    assert (stages["after_latency_ms"] > 0).all()
    assert (stages["after_latency_64_ms"] > stages["after_latency_ms"]).all()


def test_what_was_measured_names_its_runtime(finished: Run) -> None:
    assert finished.config.runtime == "torch"
    walk = stage_walk(finished.stages)
    assert walk["network"].tolist() == ["start", "train", "disout"]
    assert (walk["runtime"] == "torch").all()
    assert (walk["latency_threads"] == 1).all()
    assert (walk[["latency_repeats", "latency_64_repeats"]] >= 1).all(axis=None)
    noted = walk.assign(
        latency_repeats=40,
        latency_64_repeats=7,
        latency_threads=[1, 2, 1],
        runtime_note=["", "onnxruntime was not used: it fails", ""],
    )
    assert runtime_words(noted) == [
        "start, disout: torch, 1 thread, medians of 40 batches of 1 image and 7 of 64",
        "train: torch, 2 threads, medians of 40 batches of 1 image and 7 of 64; "
        "onnxruntime was not used: it fails",
    ]
    page = finished.folder.report.read_text()
    assert all(words in page for words in runtime_words(walk))


def test_default_runtime_is_that_of_each_network_and_an_unknown_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    config, source = load_config(file)
    resolved = make_experiment(config, source, EvaluationContext()).resolved()
    assert resolved.runtime is None
    with pytest.raises(InputError, match=r"override runtime=.*unknown runtime 'onnx'; known"):
        run(file, tmp_path / "run", {"runtime": "onnx"})
    assert not (tmp_path / "run").exists()


def test_report_stands_alone(finished: Run) -> None:
    page = finished.folder.report.read_text()
    assert page.count("<svg") >= 2
    assert "http" not in page.replace("http://www.w3.org", "")
    shown = ("Random search, computed exactly", "disout", "Training loss in the stages")
    for text in (finished.best["architecture"], "valid_accuracy at 10 epochs", *shown):
        assert text in page


def test_report_says_how_the_last_network_tells_each_class(finished: Run) -> None:
    page = finished.folder.report.read_text()
    test = load_task("digits", {}, "test").test
    said = finished.network().module.eval()(test.inputs[:]).argmax(dim=1)
    for label in range(10):
        own = test.labels == label
        share, count = float((said[own] == label).double().mean()), int(own.sum())
        row = f'<span>{label}</span></td><td data-name="test images"><span>{count}</span></td>'
        assert row in page
        assert f"<span>{share:.3f} ± {(share * (1 - share) / count) ** 0.5:.3f}</span>" in page


def test_broken_off_in_a_stage_goes_on_to_the_same_network(finished: Run, tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    overrides = {"stages.1.recipe.epochs": 1, "runtime": "torch"}

    told = []

    def stop(event: Event) -> None:
        told.append(event.words)
        if event.phase == "stages" and "epoch 2" in event.words:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(file, tmp_path / "run", overrides, watch=stop)
    assert any("images of 1 x 8 x 8, 10 classes: " in words for words in told[:3])
    resumed = run(file, tmp_path / "run", overrides, resume=True)
    pairs = zip(
        resumed.network().module.state_dict().values(),
        finished.network().module.state_dict().values(),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)
