"""Stages that learn from earlier networks of the run, and from networks in files."""

import pytest
from pydantic import BaseModel, ConfigDict

from nasplatform import plugins
from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.stages.base import Stage, StageResult
from nasplatform.stages.pipeline import run_pipeline, stages_frame
from nasplatform.stages.train import training_metrics
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.distillation import Distillation, DistillationOptions
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe

RECIPE = {"epochs": 2, "batch_size": 16}
TRAIN = ("train", {"recipe": RECIPE})


def run(folder, stages):
    return run_pipeline(tiny_network(), tiny_task(), stages, folder, 3)


class Likening(Stage):
    """Train towards what earlier networks of the run say: a stage with several teachers."""

    name = "likening"

    class Options(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")

        teachers: tuple[str, ...]

    def apply(self, network, task, context):
        found = {name: state_digest(context.network(name).module) for name in self.options.teachers}
        seen.append((sorted(context.networks), found))
        teacher = context.network(self.options.teachers[0])
        objective = Distillation.of(teacher.module, task.loss, DistillationOptions())
        student = network.fresh(context.seed)
        history = train(
            student.module,
            task,
            Recipe(**RECIPE),
            context.seed,
            checkpoint=context.checkpoint,
            objective=objective,
            tag=found[self.options.teachers[0]],
        )
        return StageResult(student, training_metrics(history))


seen: list = []


@pytest.fixture
def likening(monkeypatch):
    """Register the stage as a plug-in of this process."""
    get = plugins.get
    monkeypatch.setattr(
        plugins, "get", lambda kind, name: Likening if name == "likening" else get(kind, name)
    )
    seen.clear()


def test_stage_names_earlier_networks_and_files_as_teachers(tmp_path, likening):
    saved = tmp_path / "saved"
    tiny_network(9).save(saved)
    teachers = ("1-likening", "train", "0-train", "start", str(saved))
    stages = [
        TRAIN,
        ("likening", {"teachers": ("train",)}),
        ("likening", {"teachers": teachers}),
    ]
    run(tmp_path / "p", stages)
    assert seen[0][0] == ["0-train", "start", "train"]
    names, found = seen[1]
    assert names == ["0-train", "1-likening", "likening", "start", "train"]
    trained = state_digest(Network.load(tmp_path / "p" / "0-train" / "network").module)
    assert found["train"] == found["0-train"] == trained == seen[0][1]["train"]
    assert found["start"] == state_digest(tiny_network().module)
    assert found[str(saved)] == state_digest(tiny_network(9).module)
    assert len(set(found.values())) == 4
    frame = stages_frame(run(tmp_path / "p", stages)[1])  # nothing is run again
    assert len(seen) == 2
    assert frame["metric_teacher_loss"].notna().tolist() == [False, True, True]


def test_teacher_that_does_not_exist_is_named_with_those_that_do(tmp_path, likening):
    stages = [TRAIN, ("likening", {"teachers": ("trian",)})]
    with pytest.raises(
        StageError, match=r"'trian' is no earlier network of this run \(start, train"
    ):
        run(tmp_path, stages)
