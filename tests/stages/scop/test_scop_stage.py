import json
import signal
import subprocess
import sys

import pytest
import torch

from nasplatform.errors import ConfigError, StageError
from nasplatform.models.costs import count_parameters
from nasplatform.models.network import Network
from nasplatform.runtimes.measure import latency
from nasplatform.runtimes.onnx_export import export_onnx
from nasplatform.spaces import get_space
from nasplatform.stages.base import StageContext
from nasplatform.stages.pipeline import make_stage, run_pipeline
from nasplatform.stages.scop.stage import Scop
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import count_macs

QUICK = {
    "recipe": {"epochs": 1, "batch_size": 16},
    "knockoffs": {"steps": 2, "diagnostic_steps": 2, "batch_size": 16, "kind": "gaussian"},
    "control": {"epochs": 1, "batch_size": 16},
}
SHAPE = (1, 8, 8)


def wide(seed: int = 0, classes: int = 3) -> Network:
    space = get_space(
        "nasbench101",
        stem_channels=8,
        modules_per_stack=1,
        stacks=2,
        input_shape=SHAPE,
        classes=classes,
    )
    return Network.of(space, space.parse("[3M1]1011/110/01/1"), seed)


def apply(folder, network=None, seed=0, **options):
    folder.mkdir(parents=True, exist_ok=True)
    stage = make_stage("scop", QUICK | options, "test")
    context = StageContext(folder, seed)
    return stage.apply(network or wide(), tiny_task(), context)


@pytest.mark.parametrize("metric", ["macs", "params"])
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_budget_is_met_but_not_by_much(tmp_path, metric, allocation):
    budget = {"metric": metric, "keep": 0.45}
    result = apply(tmp_path, budget=budget, allocation=allocation, criterion="l1")
    count = {"macs": count_macs, "params": count_parameters}[metric]
    share = count(result.network.module, SHAPE) / count(wide().module, SHAPE)
    assert 0.33 < share <= 0.45
    assert result.metrics[f"{metric}_kept"] == share


def test_latency_budget_makes_it_faster(tmp_path, monkeypatch):
    monkeypatch.setattr("nasplatform.runtimes.timing.TIMED_RUNS", 25)
    space = get_space("nasbench101", stem_channels=32, modules_per_stack=1, input_shape=SHAPE)
    network = Network.of(space, space.parse("[333]1000/100/10/1"), 0)
    options = QUICK | {"criterion": "l1", "budget": {"metric": "latency_ms", "keep": 0.7}}
    stage = make_stage("scop", options, "test")
    result = stage.apply(network, tiny_task(), StageContext(tmp_path))
    assert (
        latency(result.network.module, SHAPE).median_ms < latency(network.module, SHAPE).median_ms
    )
    assert result.metrics["groups_removed"] > 0
    assert 0 < result.metrics["latency_tolerance_ms"] < result.metrics["latency_goal_ms"]


@pytest.mark.parametrize("criterion", ["scop", "random", "l1", "bn_scale", "fpgm", "taylor"])
def test_every_criterion_works_under_the_same_rules(tmp_path, criterion):
    result = apply(tmp_path, criterion=criterion, rate=0.5)
    network = result.network
    assert network.structure.edits[0].kind == "channels-removed"
    stem = network.module.get_submodule("layers.0.conv_bn_relu.0")
    assert stem.out_channels == 4
    assert result.metrics["masked_difference"] < 1e-5
    assert ("swap_accuracy" in result.metrics) == (criterion == "scop")


@pytest.mark.parametrize("kind", ["generator", "gaussian", "shuffled"])
def test_every_kind_of_knockoff_works(tmp_path, kind):
    result = apply(tmp_path, knockoffs=QUICK["knockoffs"] | {"kind": kind}, rate=0.3)
    # those of second order resemble the image, the others hardly
    assert (result.metrics["knockoff_correlation"] > 0.7) == (kind == "gaussian")
    assert result.metrics["swap_accuracy"] < 0.75
    assert result.metrics["scale_deviation"] > 0


def test_smaller_network_exports_to_onnx(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")
    network = apply(tmp_path, rate=0.5).network
    assert export_onnx(network.for_task(tiny_task()), tmp_path / "n.onnx") < 1e-5


def test_rounds_come_to_the_same_rate_and_are_replayed_in_order(tmp_path):
    result = apply(tmp_path / "stage", rate=0.75, rounds=2)
    kinds = [edit.kind for edit in result.network.structure.edits]
    assert kinds == ["channels-removed"] * 2
    assert result.curve["round"] == [1, 2]
    assert result.curve["epoch"] == [1, 2]
    assert result.network.module.get_submodule("layers.0.conv_bn_relu.0").out_channels == 2
    result.network.save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network")
    inputs = tiny_task().test.inputs
    assert torch.equal(predict(loaded.module, inputs), predict(result.network.module, inputs))
    fresh = loaded.fresh(1)
    assert count_macs(fresh.module, SHAPE) == count_macs(loaded.module, SHAPE)
    twice = apply(tmp_path / "again", network=loaded, rate=0.5).network
    assert len(twice.structure.edits) == 3


def test_budget_in_rounds(tmp_path):
    result = apply(tmp_path, budget={"keep": 0.4}, rounds=2, criterion="l1")
    assert 0.25 < result.metrics["macs_kept"] <= 0.4
    assert len(result.network.structure.edits) == 2


def test_teacher_changes_the_result(tmp_path):
    plain = apply(tmp_path / "a", rate=0.5, criterion="l1").network
    taught = apply(tmp_path / "b", rate=0.5, criterion="l1", teacher={"weight": 1.0}).network
    assert plain.structure == taught.structure
    assert state_digest(plain.module) != state_digest(taught.module)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0.01}, "is less than one channel in every layer"),
        ({"budget": {"keep": 0.0001}}, "a budget of 0.0001 of the macs cannot be reached"),
    ],
)
def test_what_cannot_be_done_leaves_the_network_untouched(tmp_path, monkeypatch, options, words):
    network = wide()
    before = state_digest(network.module)
    monkeypatch.setattr(
        "nasplatform.stages.scop.stage.train_scales", None
    )  # it is refused before that
    with pytest.raises(StageError, match=words):
        apply(tmp_path, network=network, **options)
    assert state_digest(network.module) == before
    assert network.structure.edits == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0.01}, "is less than one channel in every layer"),
        ({"budget": {"keep": 0.0001}, "rounds": 3}, "a budget of 0.0001 of the macs cannot be"),
        ({"rate": 0.5, "knockoffs": {"kind": "gaussian"}}, "gaussian knockoffs handle images of"),
    ],
)
def test_what_cannot_be_done_is_known_before_the_first_stage(tmp_path, monkeypatch, options, words):
    if "knockoffs" in options:
        monkeypatch.setattr("nasplatform.stages.scop.knockoffs.LARGEST_GAUSSIAN", 63)
    stages = [("train", {}), ("scop", options)]
    with pytest.raises(StageError, match=words):
        run_pipeline(wide(), tiny_task(), stages, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_network_that_cannot_be_traced_is_refused(tmp_path):
    network = wide()
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    with pytest.raises(StageError, match="no channel that can be removed"):
        apply(tmp_path, network=Network(flat, network.structure))


def test_layers_that_stay_are_named(tmp_path):
    class Turned(torch.nn.Module):
        def forward(self, x):
            return x.cumsum(1)

    network = wide()
    layers = [torch.nn.Conv2d(1, 6, 3), Turned(), torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU()]
    last = [torch.nn.Flatten(), torch.nn.Linear(128, 3)]
    module = torch.nn.Sequential(*layers, *last)
    result = apply(tmp_path, Network(module, network.structure), rate=0.5, criterion="l1")
    assert result.network.module[0].out_channels == 6
    assert result.network.module[2].out_channels == 4
    (note,) = result.notes
    assert note == "pinned: 0: operation 'cumsum' in layer '1' cannot be followed"
    assert result.metrics["pinned"] == 1


def test_latency_goal_that_is_out_of_reach_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("nasplatform.stages.scop.stage.train_scales", None)
    with pytest.raises(StageError, match=r"a budget of 0\.001 of the latency_ms cannot"):
        apply(tmp_path, budget={"metric": "latency_ms", "keep": 0.001})


def test_two_goals_are_refused():
    with pytest.raises(ConfigError, match="give rate or budget, not both"):
        make_stage("scop", {"rate": 0.3, "budget": {"keep": 0.5}}, "stages[0]")
    with pytest.raises(ConfigError, match=r"'parameters'; did you mean 'params'\?$"):
        make_stage("scop", {"budget": {"keep": 0.5, "metric": "parameters"}}, "stages[0]")
    assert Scop().options.rate_of_round == pytest.approx(0.3)


class Stop(BaseException):
    """Ends a run at once, as an interrupt from the keyboard does."""


@pytest.mark.parametrize(("words", "done"), [("scop: epoch 2", 5), ("scop: scales", 2)])
def test_interrupted_stage_goes_on_to_the_same_network(tmp_path, words, done):
    """In the fine-tuning it goes on after the last epoch, in the scales after the generator."""
    options = QUICK | {
        "recipe": {"epochs": 2, "batch_size": 16},
        "knockoffs": QUICK["knockoffs"] | {"kind": "generator"},
        "rate": 0.5,
    }

    def run(folder, progress=None):
        stages = [("scop", options)]
        return run_pipeline(tiny_network(), tiny_task(), stages, folder, 1, progress=progress)

    def stop(step, steps, said):
        if said.startswith(words) and step == done:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "p", stop)
    said = []
    resumed, _ = run(tmp_path / "p", lambda step, steps, words: said.append(words))
    unbroken, _ = run(tmp_path / "other")
    assert said[0].startswith(words)
    assert resumed.structure == unbroken.structure
    assert state_digest(resumed.module) == state_digest(unbroken.module)
    names = sorted(path.name for path in (tmp_path / "p" / "0-scop").iterdir())
    assert names == ["network", "record.json", "stage.json"]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task

def progress(done, total, words):
    if words.startswith("scop: epoch 2"):
        os.kill(os.getpid(), signal.SIGKILL)

stages = [("scop", json.loads(sys.argv[2]))]
run_pipeline(tiny_network(), tiny_task(), stages, Path(sys.argv[1]), 1, progress=progress)
"""


def test_killed_stage_goes_on_to_the_same_network(tmp_path):
    """SIGKILL in the second epoch of fine-tuning, in the first of two rounds."""
    options = QUICK | {"recipe": {"epochs": 2, "batch_size": 16}, "rate": 0.6, "rounds": 2}
    arguments = [sys.executable, "-c", KILLED, tmp_path / "p", json.dumps(options)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    left = list((tmp_path / "p" / "0-scop" / "scratch").rglob("checkpoint.safetensors"))
    assert len(left) == 1

    def run(folder):
        return run_pipeline(tiny_network(), tiny_task(), [("scop", options)], folder, 1)[0]

    resumed, unbroken = run(tmp_path / "p"), run(tmp_path / "other")
    assert resumed.structure == unbroken.structure
    assert len(resumed.structure.edits) == 2
    assert state_digest(resumed.module) == state_digest(unbroken.module)


@pytest.mark.parametrize("file", ["selection.json", "generator.safetensors"])
def test_damaged_scratch_is_made_anew(tmp_path, file):
    options = {"knockoffs": QUICK["knockoffs"] | {"kind": "generator"}, "rate": 0.5}
    first = apply(tmp_path, **options)
    (found,) = (tmp_path / "scratch").rglob(file)
    whole = found.read_bytes()
    found.write_bytes(whole[: len(whole) // 2])
    for other in (tmp_path / "scratch").rglob("*"):
        if other.is_file() and other != found:
            other.unlink()
    second = apply(tmp_path, **options)
    assert second.network.structure == first.network.structure
    assert state_digest(second.network.module) == state_digest(first.network.module)
