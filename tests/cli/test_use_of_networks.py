"""From a folder of pictures to the class names of further pictures, by commands alone."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from nasplatform.cli import main
from nasplatform.models.network import Network
from nasplatform.models.pictures import classify
from nasplatform.testing.tiny import tiny_network, tiny_task

COLOURS = {"blue": (30, 40, 220), "green": (30, 200, 40), "red": (220, 30, 30)}


def picture(colour, seed):
    noise = np.random.default_rng(seed).normal(0, 12, (20, 24, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp("pictures")
    for name, colour in COLOURS.items():
        (home / "images" / name).mkdir(parents=True)
        for seed in range(12):
            picture(colour, seed).save(home / "images" / name / f"{seed}.jpg")
    file = home / "c.yaml"
    told = {
        "name": "colours",
        "task": {"dataset": "folder", "path": str(home / "images"), "size": 12},
        "network": {"name": "resnet", "depth": 8, "width": 4},
        "stages": [{"name": "train", "recipe": {"epochs": 12, "batch_size": 8}}],
    }
    file.write_text(yaml.safe_dump(told))
    assert main(["compress", str(file), "--out", str(home / "run")]) == 0
    return home


def test_pictures_are_called_by_their_class(trained, tmp_path, capsys):
    for name, colour in COLOURS.items():
        picture(colour, 99).save(tmp_path / f"{name}.png")
    capsys.readouterr()
    assert main(["predict-images", str(trained / "run"), str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in rows] == ["blue", "green", "red"]
    assert all(0.4 < row["probability"] <= 1 for row in rows)


def test_an_exported_file_calls_them_the_same(trained, tmp_path, capsys):
    files = [str(trained / "images" / name / "0.jpg") for name in COLOURS]
    exported = tmp_path / "colours.onnx"
    assert main(["export", str(trained / "run"), str(exported)]) == 0
    answers = []
    for network in (trained / "run", exported):
        capsys.readouterr()
        assert main(["predict-images", str(network), *files, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [row["class"] for row in answers[1]] == ["blue", "green", "red"]
    for ours, theirs in zip(*answers, strict=True):
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


@pytest.mark.parametrize("change", ["cut", "bare", "other"])
def test_another_onnx_file_is_refused(change, trained, tmp_path, capsys):
    exported, photo = tmp_path / "n.onnx", str(trained / "images" / "red" / "0.jpg")
    assert main(["export", str(trained / "run"), str(exported)]) == 0
    model = onnx.load(exported)
    if change == "cut":
        exported.write_bytes(exported.read_bytes()[:-40])
    else:
        known = {one.key: one.value for one in model.metadata_props}
        del model.metadata_props[:]
        facts = {} if change == "bare" else known | {"classes": "7"}
        onnx.helper.set_model_props(model, facts | {"author": "somebody"})
        onnx.save(model, exported)
    capsys.readouterr()
    assert main(["predict-images", str(exported), photo]) == 2
    words = {"cut": "is no ONNX network", "bare": "does not say which images", "other": "classes"}
    said = capsys.readouterr().err
    assert words[change] in said
    assert said.count("\n") == 1


def test_pictures_that_are_not_there_are_told_at_once(trained):
    command = [sys.executable, "-X", "importtime", "-m", "nasplatform", "predict-images"]
    done = subprocess.run(
        [*command, str(trained / "run"), "none.jpg", "other.jpg"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "error: none.jpg is not there (and 1 more)" in done.stderr
    assert "torch" not in done.stderr


def test_a_file_that_is_no_picture_stops_nobody(trained, tmp_path, capsys):
    picture(COLOURS["red"], 7).save(tmp_path / "b.jpg")
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert main(["predict-images", str(trained / "run"), str(tmp_path / "a.jpg")]) == 2
    files = [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "none.jpg")]
    capsys.readouterr()
    assert main(["predict-images", str(trained / "run"), *files, "--json"]) == 2
    said = capsys.readouterr()
    assert [row["class"] for row in json.loads(said.out)] == [None, "red", None]
    assert "a.jpg cannot be read as an image" in said.err
    assert "(and 1 more)" in said.err


def test_a_folder_without_pictures_is_told(trained, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("no picture")
    assert main(["predict-images", str(trained / "run"), str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {tmp_path} holds no image files\n"


def test_no_network_is_written_over_a_folder(trained, tmp_path, capsys):
    assert main(["export", str(trained / "run"), str(tmp_path), "--force"]) == 2
    assert f"{tmp_path} is a folder; give the name of a file" in capsys.readouterr().err


def test_the_onnx_file_answers_alike_and_knows_its_classes(trained, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")
    out = tmp_path / "n.onnx"
    assert main(["export", str(trained / "run"), str(out)]) == 0
    assert main(["export", str(trained / "run"), str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    session = onnxruntime.InferenceSession(out)
    facts = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["class_names"] == sorted(COLOURS)
    assert (facts["shape"], facts["white"]) == ([3, 12, 12], 255.0)
    small = picture(COLOURS["green"], 5).resize((12, 12), Image.Resampling.BOX)
    raw = np.moveaxis(np.asarray(small, np.float64), 2, 0)
    mean, std = (np.array(facts[name])[:, None, None] for name in ("mean", "std"))
    logits = session.run(["logits"], {"images": ((raw - mean) / std)[None].astype(np.float32)})[0]
    assert facts["class_names"][int(logits.argmax())] == "green"


def test_three_lines_of_python(trained):
    network = Network.load(str(trained / "run" / "models" / "0-train" / "network"))
    found = classify(network, [trained / "images" / "blue" / "0.jpg"])
    assert found["class"].tolist() == ["blue"]


def test_a_network_that_knows_no_pictures_says_so(tmp_path, capsys):
    tiny_network().save(tmp_path / "network")
    picture(COLOURS["red"], 7).save(tmp_path / "a.png")
    assert main(["predict-images", str(tmp_path / "network"), str(tmp_path / "a.png")]) == 2
    assert "does not say what images it is for" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "network"), str(tmp_path / "n.onnx")]) == 2
    tiny_network().for_task(tiny_task()).save(tmp_path / "known")
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "n.onnx")]) == 2


def test_code_of_ones_own_is_imported_only_where_it_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "from torch import nn\n\n\ndef make() -> nn.Module:\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))\n"
    )
    (tmp_path / "stranger_nets.py").write_text(code)
    made = Network.from_function("stranger_nets:make", {}).for_task(tiny_task())
    made.save(tmp_path / "network")
    monkeypatch.delitem(sys.modules, "stranger_nets")
    assert main(["export", "network", "n.onnx"]) == 2
    assert "(--module stranger_nets)" in capsys.readouterr().err
    assert not (tmp_path / "n.onnx").exists()
    assert main(["export", "network", "n.onnx", "--module", "stranger_nets"]) == 0
    assert main(["export", "network", "n2.onnx", "--module", "not_there"]) == 2
    assert "module 'not_there' cannot be imported" in capsys.readouterr().err
