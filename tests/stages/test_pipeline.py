import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from torch import nn

from nasplatform import plugins
from nasplatform.errors import (
    ConfigError,
    NetworkError,
    PluginError,
    RunError,
    StageError,
    TrainingError,
)
from nasplatform.models.network import Network
from nasplatform.runtimes.measure import Measurements
from nasplatform.stages import pipeline
from nasplatform.stages.base import Stage, StageResult
from nasplatform.stages.pipeline import make_stage, run_pipeline, stages_frame
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import predict

RECIPE = {"epochs": 2, "batch_size": 16}
STAGES = [("train", {"recipe": RECIPE}), ("disout", {"recipe": RECIPE, "start": "given"})]

KILLED = """
import json, os, signal, sys
from pathlib import Path
from nasplatform.stages import pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task

folder, moment, stages = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, total, words):
    if moment == f"{words.split(':')[0]} {done}":
        die()

write = pipeline._write
def stopping_write(path, values):
    write(path, values)
    if moment == f"after {path.relative_to(folder)}":
        die()

pipeline._write = stopping_write
stages = [tuple(stage) for stage in stages]
pipeline.run_pipeline(tiny_network(), tiny_task(), stages, folder, 3, progress=progress)
"""


def run(folder, stages=STAGES, seed=3, **arguments):
    return run_pipeline(tiny_network(), tiny_task(), stages, folder, seed, **arguments)


def facts(network, records):
    """What must not depend on whether, or when, a run was killed."""
    kept = [
        {
            "options": record["options"],
            "metrics": {k: v for k, v in record["metrics"].items() if k != "training_seconds"},
            "sizes": [
                {k: v for k, v in record[side].items() if not k.startswith("latency")}
                for side in ("before", "after")
            ],
        }
        for record in records
    ]
    return state_digest(network.module), network.structure, kept


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return facts(*run(tmp_path_factory.mktemp("unbroken") / "p"))


def went_on(folder):
    """Call the pipeline again: what it comes to, and the first training step that it takes."""
    steps = []
    result = run(folder, progress=lambda done, total, words: steps.append((words, done)))
    assert sorted(path.name for path in (folder / "1-disout").iterdir()) == [
        "network",
        "record.json",
        "stage.json",
    ]
    return facts(*result), (steps[0][0].split(":")[0], steps[0][1]) if steps else None


@pytest.mark.parametrize(
    ("moment", "first_step"),
    [
        ("train 5", ("train", 4)),  # in the second epoch of the first stage
        ("after 0-train/record.json", ("disout", 1)),  # between two stages
    ],
)
def test_killed_pipeline_goes_on_to_the_same_network(tmp_path, unbroken, moment, first_step):
    arguments = [sys.executable, "-c", KILLED, tmp_path / "p", moment, json.dumps(STAGES)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert went_on(tmp_path / "p") == (unbroken, first_step)


class Stop(BaseException):
    """Ends a run at once, as an interrupt from the keyboard does."""


@pytest.mark.parametrize(
    ("file", "written", "first_step"),
    [
        ("start.json", False, ("train", 1)),
        ("0-train/record.json", False, ("disout", 1)),  # all trained, the network saved
        ("1-disout/stage.json", True, ("disout", 1)),
        ("1-disout/record.json", True, None),  # at the very end
    ],
)
def test_interrupted_pipeline_goes_on_to_the_same_network(
    tmp_path, unbroken, monkeypatch, file, written, first_step
):
    write = pipeline._write

    def stopping(path, values):
        if path != tmp_path / file or written:
            write(path, values)
        if path == tmp_path / file:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_write", stopping)
        with pytest.raises(Stop):
            run(tmp_path)
    assert went_on(tmp_path) == (unbroken, first_step)


def test_finished_stages_are_not_run_again_and_more_can_be_added(tmp_path, unbroken):
    run(tmp_path, STAGES[:1])
    steps = []
    result = run(tmp_path, progress=lambda done, total, words: steps.append(words))
    assert all(words.startswith("disout") for words in steps)
    assert facts(*result) == unbroken
    steps.clear()
    assert facts(*run(tmp_path, progress=lambda *step: steps.append(step))) == unbroken
    assert steps == []


def test_records_make_a_frame_of_one_row_per_stage(tmp_path):
    network, records = run(tmp_path)
    frame = stages_frame(records)
    sizes = list(Measurements.__annotations__)
    assert list(frame.columns)[:5] == ["index", "stage", "options", "seed", "seconds"]
    expected = {f"{side}_{name}" for side in ("before", "after") for name in sizes}
    assert expected <= set(frame.columns)
    assert {"metric_valid_accuracy", "metric_distorted_maps"} <= set(frame.columns)
    assert list(frame.stage) == ["train", "disout"]
    assert json.loads(frame.options[0])["recipe"]["epochs"] == 2
    assert frame.before_accuracy[1] == frame.after_accuracy[0]
    assert frame.isna().sum().sum() == frame.isna()["metric_distorted_maps"].sum() * 3 == 3
    assert Network.load(tmp_path / "1-disout" / "network").structure == network.structure
    assert stages_frame([]).empty
    for record in records:
        assert record["curve"]["epoch"] == [1, 2]
        assert record["curve"]["valid_accuracy"][-1] == record["metrics"]["valid_accuracy"]


def test_no_stages_leave_the_network_as_it_is(tmp_path):
    network, records = run(tmp_path, [])
    assert records == []
    assert state_digest(network.module) == state_digest(tiny_network().module)


class Lazy(Stage):
    """A stage that hands on what it is given, or a metric that is no number."""

    name = "lazy"

    class Options(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        diverge: bool = False

    def apply(self, network, task, context):
        if self.options.diverge:
            return StageResult(network.fresh(9), {"odd": float("nan")})
        return StageResult(network.copy())


@pytest.fixture
def lazy(monkeypatch):
    get = plugins.get
    monkeypatch.setattr(
        plugins, "get", lambda kind, name: Lazy if name == "lazy" else get(kind, name)
    )


@pytest.mark.usefixtures("lazy")
def test_stage_that_changed_nothing_fails_and_is_not_recorded(tmp_path):
    with pytest.raises(StageError, match="stage 'lazy' changed nothing"):
        run(tmp_path, [("lazy", {})])
    assert not (tmp_path / "0-lazy" / "record.json").exists()


@pytest.mark.usefixtures("lazy")
def test_stage_that_changes_what_it_was_given_is_told_so(tmp_path, monkeypatch):
    def apply(self, network, task, context):
        for weights in network.module.parameters():
            weights.data.mul_(0.5)
        return StageResult(network)

    monkeypatch.setattr(Lazy, "apply", apply)
    with pytest.raises(StageError, match=r"network that it was given: change a copy"):
        run(tmp_path, [("lazy", {})])


@pytest.mark.usefixtures("lazy")
def test_metric_that_is_no_finite_number_fails(tmp_path):
    with pytest.raises(StageError, match="stage 'lazy': metric 'odd' is nan"):
        run(tmp_path, [("lazy", {"diverge": True})])


def test_bad_stages_are_refused_before_any_is_run(tmp_path):
    with pytest.raises(PluginError, match="did you mean 'disout'"):
        run(tmp_path / "a", [STAGES[0], ("disot", {})])
    with pytest.raises(ConfigError, match=r"stages\[1\]\.disout\.alfa: unknown key 'alfa'"):
        run(tmp_path / "b", [STAGES[0], ("disout", {"alfa": 1})])
    with pytest.raises(ConfigError, match=r"stages\[0\]\.train\.recipe\.epochs"):
        run(tmp_path / "c", [("train", {"recipe": {"epochs": 0}})])
    assert list(tmp_path.iterdir()) == []
    assert make_stage("train", {}, "x").options.recipe.epochs == 10


class Baked(nn.Module):
    """Its trace answers for as many images as it was traced with; returns more than logits."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x):
        features = x.reshape(len(x) // 1, 64)
        return {"features": features, "logits": self.linear(features)}


def own(module="test_pipeline:Baked", **arguments):
    return Network.from_function(module, arguments, seed=1)


def test_network_of_ones_own_is_measured_where_it_can_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    stages = [("train", {"recipe": RECIPE})]
    network, records = run_pipeline(own(), tiny_task(), stages, tmp_path, runtime="onnxruntime")
    for side in ("before", "after"):
        assert records[0][side]["runtime"] == "torch"
        assert records[0][side]["runtime_note"].startswith("onnxruntime was not used: it ")
    loaded = Network.load(tmp_path / "0-train" / "network")
    assert loaded.structure == network.structure
    assert loaded.structure.input["shape"] == [1, 8, 8]
    assert predict(loaded.module, tiny_task().test.inputs).shape == (30, 3)


def test_network_that_does_not_suit_is_refused_before_anything_is_written(tmp_path):
    wide = Network.named("resnet", depth=8, input_shape=(3, 8, 8), classes=3)
    with pytest.raises(NetworkError, match="takes 3 channels, but was given 1"):
        run_pipeline(wide, tiny_task(), STAGES, tmp_path / "p")
    with pytest.raises(PluginError, match="unknown runtime 'tf'"):
        run(tmp_path / "p", runtime="tf")
    assert not (tmp_path / "p").exists()


def test_folder_of_another_pipeline_is_refused(tmp_path):
    run(tmp_path, STAGES[:1])
    with pytest.raises(RunError, match="is of another pipeline"):
        run(tmp_path, STAGES[:1], seed=4)
    with pytest.raises(RunError, match="is of another pipeline"):
        run(tmp_path, STAGES[:1], runtime="torch")
    with pytest.raises(RunError, match="is of another pipeline"):
        run(tmp_path, [("train", {"recipe": {**RECIPE, "epochs": 3}})])


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("corrected", [STAGES[1], ("disout", {"recipe": RECIPE})])
@pytest.mark.parametrize("failing", [("lazy", {}), ("disout", {"recipe": RECIPE, "block": 1})])
def test_a_failed_stage_can_be_corrected_and_costs_nothing_before_it(
    tmp_path, unbroken, failing, corrected
):
    def stop(done, total, words):
        if words.startswith("disout: epoch 2"):
            raise Stop

    with pytest.raises((StageError, Stop)):
        run(tmp_path, [STAGES[0], failing], progress=stop)
    steps = []
    result = run(
        tmp_path, [STAGES[0], corrected], progress=lambda done, total, words: steps.append(words)
    )
    assert all(words.startswith("disout: epoch") for words in steps)
    assert steps[0].startswith("disout: epoch 1/2")
    assert not list(tmp_path.glob("1-lazy"))
    if corrected is STAGES[1]:
        assert facts(*result) == unbroken


def test_a_stage_with_a_result_is_not_replaced(tmp_path):
    run(tmp_path, STAGES[:1])
    with pytest.raises(RunError, match=r"0-train/record\.json is of another pipeline"):
        run(tmp_path, STAGES[1:])
    assert (tmp_path / "0-train" / "record.json").exists()


def test_impossible_recipe_of_a_later_stage_is_refused_before_the_first(tmp_path):
    stages = [STAGES[0], ("disout", {"recipe": RECIPE | {"precision": "float16"}})]
    with pytest.raises(TrainingError, match="float16 needs a CUDA device"):
        run(tmp_path, stages)
    assert list(tmp_path.iterdir()) == []
