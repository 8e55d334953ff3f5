"""Networks of bits by commands alone: written to one file, asked about pictures, measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

from nasplatform.cli import main
from nasplatform.errors import BuildError
from nasplatform.models.costs import count_operations, state_bytes
from nasplatform.models.network import Network
from nasplatform.runtimes.deployed import deploy
from nasplatform.testing.tiny import tiny_network, tiny_task

COLOURS = {"blue": (30, 40, 220), "green": (30, 200, 40), "red": (220, 30, 30)}


def picture(colour, seed):
    noise = np.random.default_rng(seed).normal(0, 12, (20, 24, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run that ends in bits, its file, and a picture of each class."""
    home = tmp_path_factory.mktemp("bits")
    for name, colour in COLOURS.items():
        (home / "images" / name).mkdir(parents=True)
        for seed in range(12):
            picture(colour, seed).save(home / "images" / name / f"{seed}.jpg")
    told = {
        "name": "bits",
        "task": {"dataset": "folder", "path": str(home / "images"), "size": 8},
        "network": {"name": "resnet", "depth": 8, "width": 4},
        "stages": [
            {"name": "binarize", "recipe": {"epochs": 8, "batch_size": 8}},
        ],
    }
    (home / "c.yaml").write_text(yaml.safe_dump(told))
    assert main(["compress", str(home / "c.yaml"), "--out", str(home / "run")]) == 0
    assert main(["export", str(home / "run"), str(home / "network.nasbin")]) == 0
    (home / "new").mkdir()
    for name, colour in COLOURS.items():
        picture(colour, 99).save(home / "new" / f"{name}.png")
    return home


def said(capsys, *command):
    capsys.readouterr()
    assert main([*map(str, command), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_file_sees_in_pictures_what_the_run_does(home, capsys):
    ours = said(capsys, "predict-images", home / "network.nasbin", home / "new")
    theirs = said(capsys, "predict-images", home / "run", home / "new")
    assert [row["class"] for row in ours] == ["blue", "green", "red"]
    for one, other in zip(ours, theirs, strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_what_is_measured_in_the_file_is_what_the_stage_measured(home, capsys):
    path, images = home / "network.nasbin", home / "images"
    data = ["--dataset", "folder", "--set", f"path={images}", "--set", "size=8"]
    found = said(capsys, "measure", path, *data)
    [stage] = said(capsys, "results", "show", home / "run")["stages"]
    assert found["accuracy"] == stage["after_accuracy"]
    for name in ("macs", "binary_macs", "bytes_binary", "bytes_scales", "runtime"):
        assert found[name] == stage[f"after_{name}"]
    assert found["runtime"] == "packed"
    assert found["bytes_on_disk"] == path.stat().st_size == stage["metric_packed_file_bytes"]
    assert found["latency_ms"] > 0 < found["latency_64_ms"]
    assert said(capsys, "measure", path)["accuracy"] is None


def test_a_run_is_measured_on_its_own_data_in_any_runtime(home, capsys):
    ours = said(capsys, "measure", home / "run")
    theirs = said(capsys, "measure", home / "run", "--runtime", "torch")
    assert (ours["runtime"], theirs["runtime"]) == ("packed", "torch")
    assert ours["accuracy"] == theirs["accuracy"] > 0.5


def test_a_saved_network_is_measured_without_data(home, capsys):
    folder = home / "run" / "models" / "0-binarize" / "network"
    network = Network.load(folder)
    found = said(capsys, "measure", folder)
    assert found["accuracy"] is None
    assert found["bytes_full_precision"] == state_bytes(network.module).full_precision
    assert found["binary_macs"] == count_operations(network.module, (3, 8, 8)).binary_macs
    assert main(["measure", str(folder)]) == 0
    assert "runtime_note" not in capsys.readouterr().out


def test_float_networks_go_into_such_a_file_too(tmp_path, capsys):
    path = tmp_path / "float.nasbin"
    assert deploy(tiny_network().for_task(tiny_task()), path) < 1e-5
    found = said(capsys, "measure", path)
    assert (found["binary_macs"], found["bytes_binary"]) == (0, 0)
    assert found["macs"] > 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["export", "{home}/run", "{home}/network.tflite"], "must end in .onnx or .nasbin"),
        (["export", "{home}/network.nasbin", "{home}/n.onnx"], "is a file, expected the folder"),
        (["export", "{home}/run", "{home}/network.nasbin"], "exists already"),
        (["measure", "{home}/none.nasbin"], "none.nasbin: is no packed network"),
        (["measure", "{home}/new/red.png"], "is a file, expected the folder"),
        (["predict-images", "{home}/none.nasbin", "{home}/new"], "No such file"),
        (["measure", "{home}/network.nasbin", "--dataset", "digits"], "takes images (3, 8, 8)"),
        (["measure", "{home}/network.nasbin", "--dataset", "digts"], "did you mean 'digits'"),
        (["measure", "{home}/run", "--dataset", "digits"], "takes images (3, 8, 8)"),
        (["measure", "{home}/network.nasbin", "--runtime", "torch"], "runs in the runtime that"),
        (["measure", "{home}/run", "--runtime", "torhc"], "did you mean 'torch'"),
        (["measure", "{home}/run", "--set", "size=8"], "give --dataset too"),
        (["measure", "{home}/run", "--dataset", "folder"], "data set 'folder'.path: this key is"),
    ],
)
def test_bad_input_is_one_line(home, capsys, command, words):
    capsys.readouterr()
    assert main([word.format(home=home) for word in command]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


def test_images_that_were_standardised_otherwise_are_refused(home, tmp_path, capsys):
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for seed in range(12):
            picture(np.array(colour) // 2, seed).save(tmp_path / name / f"{seed}.jpg")
    data = ["--dataset", "folder", "--set", f"path={tmp_path}", "--set", "size=8"]
    assert main(["measure", str(home / "network.nasbin"), *data]) == 2
    assert "was trained on folder with mean" in capsys.readouterr().err


def test_a_damaged_file_is_refused_by_every_command(home, tmp_path, capsys):
    whole = bytearray((home / "network.nasbin").read_bytes())
    whole[-5] ^= 4
    (tmp_path / "n.nasbin").write_bytes(whole)
    for command in (["measure"], ["predict-images"]):
        given = [str(home / "new")] if command == ["predict-images"] else []
        assert main([*command, str(tmp_path / "n.nasbin"), *given]) == 2
        assert "its content is not what its digest says" in capsys.readouterr().err


def test_a_network_that_bits_cannot_express_is_not_written(tmp_path):
    network = replace(tiny_network().for_task(tiny_task()), module=nn.Sequential(nn.Softmax(0)))
    with pytest.raises(BuildError, match="packed runtime"):
        deploy(network, tmp_path / "network.nasbin")
    assert not list(tmp_path.iterdir())
