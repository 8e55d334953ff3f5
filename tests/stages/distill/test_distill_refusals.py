"""What the stage refuses, before anything is paid for."""

from dataclasses import replace

import pytest
import torch

from nasplatform.errors import ConfigError, DataError, StageError
from nasplatform.models.network import Network
from nasplatform.stages.distill import Distill, DistillOptions
from nasplatform.stages.pipeline import make_stage, run_pipeline
from nasplatform.testing.tiny import tiny_network, tiny_task

TASK = tiny_task()
RECIPE = {"epochs": 3, "batch_size": 8}


def stage(**options):
    return make_stage("distill", {"recipe": RECIPE, "labels": 4, **options}, "here")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": 0.01}, "labels: 0.01 asks for 0 of the 16 training images of class 0"),
        ({"labels": 17}, "labels: 17 asks for 17 of the 16 training images"),
        ({"unlabelled": {"folder": "nowhere"}}, "nowhere is not a directory"),
        ({"teacher": {"onnx": "nowhere.onnx"}}, "nowhere.onnx: there is no such file"),
        ({"unlabelled": {"dataset": "digitz"}}, "did you mean 'digits'"),
        ({"choice": {"by": "confidence", "keep": 25}}, "choice.keep: 25 asks for 25 of 24 unlab"),
        ({"choice": {"by": "pu", "keep": 0.01}}, "choice.keep: 0.01 asks for 0 of 24 unlabelled"),
        ({"recipe": {"class_weights": [1, 2]}}, "class_weights has 2 numbers"),
    ],
)
def test_check_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        stage(**options).check(TASK, "cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": 0}, "labels"),
        ({"labels": 1.5}, "labels"),
        (
            {"teacher": {"network": "a", "onnx": "b"}},
            "give one of network, function, onnx and train",
        ),
        ({"teacher": {"function": "a:b"}}, "needs the weights"),
        ({"unlabelled": {"folder": "a", "npz": "b"}}, "give one of dataset, folder and npz"),
        ({"choice": {"by": "luck"}}, "choice"),
        ({"distillation": {"temperature": float("inf")}}, "temperature"),
        ({"alignment": {"weight": float("inf")}}, "weight"),
        ({"recipe": {"learning_rate": float("inf")}}, "learning_rate"),
        ({"choice": {"by": "confidence"}, "unlabelled": None}, "choice needs unlabelled images"),
    ],
)
def test_options_that_cannot_be_right(options, words):
    with pytest.raises(ConfigError, match=words):
        stage(**options)


def test_teacher_of_no_numbers_is_named(tmp_path):
    network = tiny_network()
    with torch.no_grad():
        next(network.module.parameters())[0] = float("nan")
    network.save(tmp_path / "broken")
    with pytest.raises(StageError, match=r"broken says what are no finite numbers"):
        stage(teacher={"network": str(tmp_path / "broken")}).check(TASK, "cpu")


def test_single_class_is_refused():
    one = replace(TASK, classes=1, train=replace(TASK.train, labels=TASK.train.labels * 0))
    with pytest.raises(StageError, match="single class"):
        Distill(DistillOptions()).check(one, "cpu")


def test_nothing_unlabelled_is_said(tmp_path):
    with pytest.raises(StageError, match="no unlabelled images"):
        stage(labels=1.0).check(replace(TASK, unlabelled=None), "cpu")


def test_damaged_and_empty_folders(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(DataError, match="holds no image files"):
        stage(unlabelled={"folder": str(folder)}).check(TASK, "cpu")
    for index in range(3):
        (folder / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataError, match=r"0.png cannot be read as an image"):
        stage(unlabelled={"folder": str(folder)}).check(TASK, "cpu")


def test_teacher_with_other_classes_or_images(tmp_path):
    pytest.importorskip("onnxruntime")
    from nasplatform.runtimes.onnx_graph import onnx_model

    other = Network.named("resnet", depth=8, width=2, input_shape=(1, 8, 8), classes=5)
    other.save(tmp_path / "five")
    with pytest.raises(StageError, match=r"five makes \(2, 5\) of 2 images, task 'tiny' has 3"):
        stage(teacher={"network": str(tmp_path / "five")}).check(TASK, "cpu")
    colour = Network.named("resnet", depth=8, width=2, input_shape=(3, 8, 8), classes=3)
    path = tmp_path / "colour.onnx"
    path.write_bytes(onnx_model(colour.module, torch.zeros(1, 3, 8, 8)).SerializeToString())
    with pytest.raises(StageError, match=r"colour.onnx does not take 2 x 1 x 8 x 8 images"):
        stage(teacher={"onnx": str(path)}).check(TASK, "cpu")
    fixed = onnx_model(tiny_network().module, torch.zeros(1, 1, 8, 8))
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    path.write_bytes(fixed.SerializeToString())
    with pytest.raises(StageError, match=r"colour.onnx does not take 1 x 1 x 8 x 8 images"):
        stage(teacher={"onnx": str(path)}).check(TASK, "cpu")
    path.write_bytes(b"no graph")
    with pytest.raises(StageError, match=r"colour.onnx cannot be read by ONNX Runtime"):
        stage(teacher={"onnx": str(path)}).check(TASK, "cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alignment": {"tap": "layers.x"}}, "tap 'layers.x' names no feature map"),
        ({"teacher": {"network": "scop"}}, "'scop' is no earlier network of the run"),
    ],
)
def test_pipeline_refuses_before_the_first_stage(tmp_path, options, words):
    stages = [("train", {"recipe": RECIPE}), ("distill", {"recipe": RECIPE, **options})]
    with pytest.raises(StageError, match=words):
        run_pipeline(tiny_network(), TASK, stages, tmp_path / "run")
    assert not (tmp_path / "run").exists()
