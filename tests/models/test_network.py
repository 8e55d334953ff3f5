import json

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import nn

from nasplatform import plugins
from nasplatform.errors import PluginError, RunError
from nasplatform.models.edits import Edit
from nasplatform.models.network import STRUCTURE, WEIGHTS, Network, Structure
from nasplatform.models.structure import describe_input
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.evaluation import predict
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe


def test_save_and_load_give_equal_outputs(tmp_path):
    network, task = tiny_network(), tiny_task()
    train(network.module, task, Recipe(epochs=1), 0)
    network.save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network")
    assert sorted(path.name for path in (tmp_path / "network").iterdir()) == [STRUCTURE, WEIGHTS]
    assert loaded.structure == network.structure
    assert not loaded.module.training
    assert torch.equal(
        predict(loaded.module, task.test.inputs), predict(network.module, task.test.inputs)
    )


def test_save_replaces_what_was_there(tmp_path):
    tiny_network(0).save(tmp_path / "network")
    tiny_network(1).save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network")
    assert state_digest(loaded.module) == state_digest(tiny_network(1).module)
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def test_weights_follow_from_the_seed_alone():
    network = tiny_network(3)
    torch.rand(1)
    assert state_digest(network.fresh(3).module) == state_digest(network.module)
    assert state_digest(network.fresh(4).module) != state_digest(network.module)


def test_copy_is_deep_and_edits_are_recorded():
    network = tiny_network()
    copy = network.copy()
    copy.module.classifier.weight.data += 1
    assert not torch.equal(copy.module.classifier.weight, network.module.classifier.weight)
    edit = Edit("channels-removed", 1, {"classifier": {"outputs": [1]}})
    edited = network.edited(network.module, edit)
    assert edited.structure.edits == (edit,)
    assert network.structure.edits == ()
    assert Structure.from_json(edited.structure.to_json()) == edited.structure


def test_structure_is_plain_json(tmp_path):
    tiny_network().save(tmp_path / "n")
    found = json.loads((tmp_path / "n" / STRUCTURE).read_text())
    assert found["base"]["architecture"] == "[3M1]1011/110/01/1"
    assert found["base"]["space"]["name"] == "nasbench101"
    assert found["edits"] == []


def broken(folder, text=None, weights=None):
    tiny_network().save(folder)
    if text is not None:
        (folder / STRUCTURE).write_text(text)
    if weights is not None:
        save_file(weights(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def structure(**changes) -> str:
    found = json.loads(tiny_network().structure.to_json())
    return json.dumps({**found, **changes})


BASE = json.loads(tiny_network().structure.to_json())["base"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        structure(format=2),
        structure(base=[]),
        structure(base=BASE | {"architecture": "[Q]"}),
        structure(base=BASE | {"architecture": 7}),
        structure(base=BASE | {"space": {"name": "none"}}),
        structure(base=BASE | {"space": BASE["space"] | {"colour": 1}}),
        structure(edits=[{"kind": "none", "version": 1, "payload": {}}]),
        structure(edits=[{"kind": "channels-removed", "version": 9, "payload": {}}]),
        structure(edits=[{"kind": "channels-removed", "version": 1, "payload": {"x": {}}}]),
        structure(edits=[{"stage": "train"}]),
        structure(edits=[7]),
    ],
)
def test_damaged_structure_is_a_run_error(tmp_path, text):
    broken(tmp_path / "n", text)
    with pytest.raises(RunError, match="holds no network that can be loaded") as caught:
        Network.load(tmp_path / "n")
    assert str(tmp_path / "n") in str(caught.value)
    assert "\n" not in str(caught.value)


INPUT = describe_input(tiny_task())


def test_input_is_read_as_it_was_written(tmp_path):
    network = tiny_network().for_task(tiny_task())
    network.save(tmp_path / "n")
    assert Network.load(tmp_path / "n").structure.input == INPUT == network.structure.input


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "structure.json: expected keys and values, got []"),
        (json.dumps({"format": 1, "edits": [], "input": None}), "structure.json.base: this key is"),
        (structure(input=[1]), "structure.json.input: "),
        (structure(input=INPUT | {"shape": None}), "input.shape: "),
        (structure(input=INPUT | {"shape": [1, 8]}), "input.shape: "),
        (structure(input=INPUT | {"mean": []}), "mean and std must have one number for each"),
        (structure(input=INPUT | {"std": "x"}), "input.std: "),
        (structure(input=INPUT | {"white": []}), "input.white: "),
        (structure(input=INPUT | {"classes": "3"}), "input.classes: "),
        (structure(input=INPUT | {"classes": -1}), "input.classes: "),
        (structure(input=INPUT | {"class_names": ["a"]}), "class_names must be as many as classes"),
        (structure(input={k: v for k, v in INPUT.items() if k != "mean"}), "input.mean: this key"),
    ],
)
def test_a_damaged_description_names_the_key(tmp_path, text, words):
    broken(tmp_path / "n", text)
    with pytest.raises(RunError, match="holds no network that can be loaded") as caught:
        Network.load(tmp_path / "n")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {k: v for k, v in weights.items() if not k.startswith("classifier")},
        lambda weights: weights | {"more": torch.zeros(1)},
        lambda weights: weights | {"classifier.bias": torch.zeros(4)},
    ],
)
def test_weights_that_do_not_fit_are_a_run_error(tmp_path, change):
    broken(tmp_path / "n", weights=change)
    with pytest.raises(RunError, match="holds no network"):
        Network.load(tmp_path / "n")


def test_missing_and_truncated_files_are_run_errors(tmp_path):
    with pytest.raises(RunError, match="holds no network"):
        Network.load(tmp_path / "none")
    tiny_network().save(tmp_path / "n")
    weights = tmp_path / "n" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(RunError, match="holds no weights"):
        Network.load(tmp_path / "n")
    weights.unlink()
    with pytest.raises(RunError, match=r"holds no network that can be loaded .*No such file"):
        Network.load(tmp_path / "n")


class OwnOptions(BaseModel):
    seed: int = 0
    device: str = "none"


class Taken(BaseModel):
    weights: str = "imagenet"


def own(options: OwnOptions) -> nn.Module:
    return nn.Linear(3 + options.seed, len(options.device))


def taken(options: Taken) -> nn.Module:
    return nn.Linear(1, 1)


def test_options_of_ones_own_may_have_names_that_the_platform_uses(tmp_path, monkeypatch):
    made = {"own": own, "taken": taken}
    monkeypatch.setattr(plugins, "get", lambda kind, name: made[name])
    network = Network.named("own", 7, seed=5, device="tpu")
    assert network.module.weight.shape == (3, 8)
    assert state_digest(network.module) == state_digest(
        Network.named("own", 7, **{"device": "tpu", "seed": 5}).module
    )
    network.save(tmp_path / "network")
    assert Network.load(tmp_path / "network").module.weight.shape == (3, 8)
    with pytest.raises(
        PluginError, match="network 'taken' calls an option 'weights', which a file"
    ):
        Network.named("taken")
