"""The stage from end to end on tiny data: sources, teachers, resuming, bad input."""

import resource
from dataclasses import replace
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from nasplatform.errors import (
    ConfigError,
    NasplatformError,
    TrainingError,
)
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext
from nasplatform.stages.distill.objective import UnlabelledDistillation
from nasplatform.stages.distill.sources import UnlabelledChoice, labelled_rows, with_labels
from nasplatform.stages.distill.teachers import ModuleTeacher, TeacherChoice
from nasplatform.stages.distill.trained import TrainedTeacher
from nasplatform.stages.pipeline import make_stage, run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task, tiny_transformer
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.darkening import darkened
from nasplatform.training.datasets import load_task
from nasplatform.training.fitting import fitted
from nasplatform.training.image_store import DiskImages, Images
from nasplatform.training.recipe import Recipe
from nasplatform.training.streams import Stream

TASK = tiny_task()
RECIPE = {"epochs": 3, "batch_size": 8}


def stage(**options):
    given = {"recipe": RECIPE, "labels": 4, "alignment": {}, **options}
    return make_stage("distill", given, "here")


def apply(folder, network=None, seed=0, **options):
    folder.mkdir(exist_ok=True)
    return stage(**options).apply(network or tiny_network(), TASK, StageContext(folder, seed))


@pytest.fixture
def saved(tmp_path):
    tiny_network(5).save(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.fixture
def photos(tmp_path):
    """Colour photographs of another size, in folders."""
    rng = np.random.default_rng(0)
    for index in range(20):
        home = tmp_path / "photos" / str(index % 2)
        home.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (12, 10, 3), np.uint8)
        Image.fromarray(pixels).save(home / f"{index}.png")
    return tmp_path / "photos"


def test_labels_are_a_share_or_a_number_of_every_class():
    labels = TASK.train.labels.numpy()
    for wanted, count in ((0.25, 4), (5, 5), (1.0, 16)):
        rows = labelled_rows(TASK, wanted, 0)
        assert np.bincount(labels[rows]).tolist() == [count] * 3
        assert len(set(rows.tolist())) == len(rows)
        np.testing.assert_array_equal(rows, labelled_rows(TASK, wanted, 0))
    assert labelled_rows(TASK, 5, 0).tolist() != labelled_rows(TASK, 5, 1).tolist()


def test_images_without_their_labels_are_the_unlabelled_ones():
    task = replace(TASK, unlabelled=None)
    rows = labelled_rows(task, 4, 0)
    some = with_labels(task, rows)
    assert len(some.train) == 12
    torch.testing.assert_close(some.train.inputs[:], TASK.train.inputs[rows])
    others = np.setdiff1d(np.arange(48), rows)
    torch.testing.assert_close(some.unlabelled[:], TASK.train.inputs[others])


def test_killed_and_resumed_to_equal_bits(tmp_path, saved):
    options = {"teacher": {"network": saved}, "labels": 4}
    whole = apply(tmp_path / "whole", **options)

    class KilledError(Exception):
        pass

    def kill(done, total, words):
        if words.startswith("epoch 3"):
            raise KilledError

    home = tmp_path / "killed"
    home.mkdir()
    with pytest.raises(KilledError):
        stage(**options).apply(tiny_network(), TASK, StageContext(home, progress=kill))
    assert (home / "checkpoint.safetensors").exists()
    again = apply(home, **options)
    assert state_digest(again.network.module) == state_digest(whole.network.module)
    assert again.metrics["alignment_loss"] == whole.metrics["alignment_loss"]
    assert whole.metrics["labelled_images"] == 12
    assert whole.metrics["unlabelled_images"] == 24


def test_checkpoint_of_other_data_or_teacher_is_refused(tmp_path, saved):
    home = tmp_path / "stage"
    apply(home, teacher={"network": saved})
    with pytest.raises(TrainingError, match="another training"):
        apply(home)


def test_answers_are_stored_and_change_nothing(tmp_path, saved, monkeypatch):
    options = {"teacher": {"network": saved}}
    stored = apply(tmp_path / "stored", **options)
    files = list((tmp_path / "stored" / "scratch").glob("answers-*.npy"))
    assert sorted(np.load(file).shape for file in files) == [(12, 3), (24, 3)]
    monkeypatch.setattr(Recipe, "augments", property(lambda recipe: True))
    asked = apply(tmp_path / "asked", **options)
    for name in ("teacher_loss", "label_loss", "valid_accuracy"):
        assert asked.metrics[name] == pytest.approx(stored.metrics[name], abs=1e-4)
    assert not (tmp_path / "asked" / "scratch").exists()


def test_every_part_can_be_left_out(tmp_path, saved):
    teacher = {"network": saved}
    assert "alignment_loss" not in apply(tmp_path / "a", teacher=teacher, alignment=None).metrics
    alone = apply(tmp_path / "b", teacher=teacher, unlabelled=None).metrics
    assert alone["unlabelled_images"] == 0
    assert "alignment_loss" not in alone
    hard = {"distillation": {"hard": True}, "start": "scratch"}
    assert apply(tmp_path / "c", teacher=teacher, **hard).metrics["epochs"] == 3
    half = apply(tmp_path / "e", recipe={**RECIPE, "precision": "bfloat16"})
    assert half.metrics["alignment_loss"] > 0
    chosen = apply(tmp_path / "d", choice={"by": "confidence", "keep": 7})
    assert chosen.metrics["unlabelled_images"] == 7
    assert chosen.notes[0].startswith("unlabelled images of tiny: 24 of 1 x 8 x 8")
    assert "kept 7 of 24 unlabelled images by confidence" in chosen.notes


def test_folder_of_photographs(tmp_path, photos):
    result = apply(tmp_path / "stage", unlabelled={"folder": str(photos)})
    assert result.metrics["unlabelled_images"] == 20
    assert result.notes[0] == (
        f"unlabelled images of {photos}: 20 of 1 x 8 x 8, standardised by their own statistics"
    )
    assert result.notes[1] == "aligned 'layers.3': 8 channels, 16 places"


def test_npz_without_labels_and_data_sets(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (15, 3, 6, 6), np.uint8)
    np.savez(tmp_path / "more.npz", x=images)
    note = apply(tmp_path / "a", unlabelled={"npz": str(tmp_path / "more.npz")}).notes[0]
    assert "15 of 3 x 6 x 6 brought to 1 x 8 x 8" in note
    source = {"dataset": "digits", "noise": 0.5, "darken": 0.5}
    digits = apply(tmp_path / "b", unlabelled=source, recipe={"epochs": 1})
    assert digits.metrics["unlabelled_images"] == 898
    assert digits.notes[0].endswith(", 0.5 of the light taken")


def test_black_of_images_in_the_dark_is_that_of_their_own_source(tmp_path):
    task = load_task("digits", {}, "here")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 1), np.uint8)
    np.savez(tmp_path / "images.npz", x=np.tile(pixels, (1, 16, 16)))
    made, _ = UnlabelledChoice(npz=tmp_path / "images.npz", darken=0.75).load(task)
    expected = (pixels * 0.25 - pixels.mean()) / pixels.std()
    found = made[:].numpy()[:, 0, :1, :1]
    np.testing.assert_allclose(found, expected, atol=0.51 / pixels.std())


def test_black_of_a_data_set_in_the_dark_is_its_own():
    task, other = (load_task("digits", {"noise": noise}, "here") for noise in (1.0, 0.0))
    made, _ = UnlabelledChoice(dataset="digits", darken=0.75, noise=0.0).load(task)
    mean, std = other.mean[0], other.std[0]
    expected = ((other.train.inputs[:].numpy() * std + mean) * 0.25 - mean) / std
    np.testing.assert_allclose(made[:].numpy(), expected, atol=1e-5)


def test_teacher_of_the_run_of_a_function_and_of_onnx(tmp_path, saved):
    pytest.importorskip("onnxruntime")
    from nasplatform.runtimes.onnx_graph import onnx_model

    teacher = Network.load(tmp_path / "teacher")
    results = [apply(tmp_path / "saved", teacher={"network": saved})]
    context = StageContext(tmp_path / "run", networks={"train": teacher})
    results.append(stage(teacher={"network": "train"}).apply(tiny_network(), TASK, context))
    model = onnx_model(teacher.module, torch.zeros(1, 1, 8, 8))
    path = tmp_path / "teacher.onnx"
    path.write_bytes(model.SerializeToString())
    results.append(apply(tmp_path / "onnx", teacher={"onnx": str(path)}))
    losses = [result.metrics["teacher_loss"] for result in results]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_stage_of_the_run_comes_before_a_folder_of_its_name(tmp_path, saved, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()  # of images, say
    tiny_network(7).save(tmp_path / "start")
    earlier = {"start": Network.load(saved), "train": Network.load(saved)}
    losses = []
    for name in (saved, *earlier):
        chosen = stage(teacher={"network": name})
        chosen.check(TASK, "cpu")
        chosen.check_network(tiny_network(), TASK, list(earlier))
        context = StageContext(tmp_path / f"of-{len(losses)}", networks=earlier)
        losses.append(chosen.apply(tiny_network(), TASK, context).metrics["teacher_loss"])
    assert losses[0] == losses[1] == losses[2]


def test_pruned_network_learns_and_keeps_its_structure(tmp_path):
    cut = {"recipe": {"epochs": 1}, "rate": 0.5, "criterion": "l1"}
    stages = [("scop", cut), ("distill", {"recipe": RECIPE, "teacher": {"network": "start"}})]
    network, records = run_pipeline(tiny_network(), TASK, stages, tmp_path / "run")
    assert network.structure.edits[0].kind == "channels-removed"
    assert records[1]["after"]["macs"] == records[0]["after"]["macs"] < records[0]["before"]["macs"]
    assert Network.load(tmp_path / "run" / "1-distill" / "network").structure == network.structure


def test_teacher_in_files_is_read_once(tmp_path, saved, monkeypatch):
    read, load = [], TeacherChoice.load
    monkeypatch.setattr(TeacherChoice, "load", lambda choice: read.append(choice) or load(choice))
    made = stage(teacher={"network": saved}, unlabelled=None)
    made.check(TASK, "cpu")  # as a file is checked before its search is paid for
    run_pipeline(tiny_network(), TASK, [made], tmp_path / "run")
    assert len(read) == 1


def test_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    real = UnlabelledDistillation.forward

    def broken(self, network, batch):
        loss, metrics = real(self, network, batch)
        return loss * float("nan") if self.aligner.factor > 0.093 else loss, metrics

    monkeypatch.setattr(UnlabelledDistillation, "forward", broken)
    home = tmp_path / "stage"
    with pytest.raises(TrainingError, match=r"the training loss is nan at step 4 of 9"):
        apply(home)
    assert (home / "checkpoint.safetensors").exists()


def test_a_million_images_on_disk_take_the_memory_of_a_batch(tmp_path):
    shape = (1_000_000, 3, 32, 32)
    path = tmp_path / "pixels.u8"
    with path.open("wb") as file:
        file.truncate(int(np.prod(shape)))  # 3 GB of nothing: a sparse file
    one = np.zeros((1, 3), np.int64)
    facts = np.broadcast_to(one, (shape[0], 3)), np.zeros((1, 32), np.uint8)
    disk = DiskImages(path, shape, np.arange(shape[0]), facts[0], facts[0], facts[1])
    images = Images(disk, (np.full(3, 100.0), np.full(3, 50.0)))
    grey = replace(TASK, input_shape=(1, 8, 8))
    made = darkened(fitted(images, grey, "many")[0], 0.5, grey)
    batches = Stream(made, None, Recipe(batch_size=64), 3).epoch(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        assert next(batches).inputs.shape == (64, 1, 8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # of 3,000,000 kB


class TestATeacherThatIsTrainedFirst:
    """A registered network, for a network of another kind."""

    NAMED: ClassVar = {"name": "resnet", "depth": 8, "width": 4, "recipe": {"epochs": 2}}

    def test_it_learns_the_labels_that_may_be_used_and_teaches(self, tmp_path):
        longer = self.NAMED | {"recipe": {"epochs": 12}}
        taught = apply(tmp_path / "a", tiny_transformer(), teacher={"train": longer})
        untaught = apply(tmp_path / "b", tiny_transformer())
        assert taught.metrics["teacher_accuracy"] > 0.5  # chance is a third
        assert state_digest(taught.network.module) != state_digest(untaught.network.module)
        network = TrainedTeacher.model_validate(self.NAMED).untrained(TASK, 0)
        assert type(network.module).__name__ == "ResNet"

    def test_its_training_goes_on_after_a_kill(self, tmp_path, monkeypatch):
        whole = apply(tmp_path / "whole", teacher={"train": self.NAMED})
        with monkeypatch.context() as patch:
            patch.setattr(ModuleTeacher, "of", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):  # the teacher is trained, the student is not
                apply(tmp_path / "killed", teacher={"train": self.NAMED})
        again = apply(tmp_path / "killed", teacher={"train": self.NAMED})
        assert state_digest(again.network.module) == state_digest(whole.network.module)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"name": "resnte"}, "did you mean 'resnet'"),
            ({"name": "resnet", "dept": 8}, "did you mean 'depth'"),
            ({"name": "resnet", "classes": 7}, "7"),
        ],
    )
    def test_what_does_not_fit_is_refused_before(self, wrong, words):
        with pytest.raises(NasplatformError, match=words):
            stage(teacher={"train": wrong}).check(TASK, "cpu")

    def test_one_teacher_only(self):
        with pytest.raises(ConfigError, match="one of network, function, onnx and train"):
            stage(teacher={"train": self.NAMED, "network": "start"})
