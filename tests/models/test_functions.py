import json
import sys
import textwrap

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nasplatform.errors import NetworkError, RunError
from nasplatform.models.network import STRUCTURE, Network
from nasplatform.models.weights import load_weights
from nasplatform.training.checkpoint import state_digest

SOURCE = """
from __future__ import annotations
import torch
from torch import nn

called = []

def make(width: int = 4, kernels: tuple[int, ...] = (3, 3)) -> nn.Sequential:
    called.append(width)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 3))

class Net(nn.Linear):
    def __init__(self, width: int = 8):
        super().__init__(width, 3)

def unsaid(width=4):
    called.append(width)
    return nn.Linear(width, 3)

def wrong() -> nn.Module:
    return 7

def broken() -> nn.Module:
    raise RuntimeError("no\\nway")

number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch, request):
    """A module of the user's own in the current folder, under a name of its own."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    return name


def test_network_of_a_function_is_saved_and_loaded(mine, tmp_path):
    network = Network.from_function(f"{mine}:make", {"width": 5, "kernels": (1, 3)}, seed=3)
    assert network.module[1].out_features == 5
    network.save(tmp_path / "network")
    found = json.loads((tmp_path / "network" / STRUCTURE).read_text())["base"]
    assert found == {"module": f"{mine}:make", "options": {"width": 5, "kernels": [1, 3]}}
    loaded = Network.load(tmp_path / "network")
    assert loaded.structure == network.structure
    assert state_digest(loaded.module) == state_digest(network.module)
    assert state_digest(network.fresh(3).module) == state_digest(network.module)
    assert state_digest(network.fresh(4).module) != state_digest(network.module)


def test_class_of_a_network_will_do(mine):
    assert isinstance(Network.from_function(f"{mine}:Net", {"width": 6}).module, nn.Linear)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("{}.make", {}, "names no function, expected 'package.module:function'"),
        ("{}:", {}, "names no function"),
        ("{}:none", {}, "has no 'none'"),
        ("no_such_{}:make", {}, "cannot be imported: No module named 'no_such"),
        ("{}:make", {"widht": 3}, "unexpected keyword argument 'widht'"),
        ("{}:make", {"width": {1, 2}}, "options must be plain values"),
        ("{}:make", {"width": "x"}, "make raises TypeError"),
        ("{}:unsaid", {}, "annotate it '-> nn.Module'"),
        ("{}:number", {}, "annotate it '-> nn.Module'"),
        ("{}:wrong", {}, "returns a int, expected an nn.Module"),
        ("{}:broken", {}, "raises RuntimeError: no way"),
        ("os:system", {"command": "true"}, "annotate it '-> nn.Module'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(mine, name, options, words):
    with pytest.raises(NetworkError, match=words) as caught:
        Network.from_function(name.format(mine), options)
    assert "\n" not in str(caught.value)


def test_file_from_elsewhere_calls_nothing_but_makers_of_networks(mine, tmp_path):
    Network.from_function(f"{mine}:make").save(tmp_path / "network")
    path = tmp_path / "network" / STRUCTURE
    text = path.read_text()
    for other in (f"{mine}:unsaid", f"{mine}:called.append", "os:system"):
        path.write_text(text.replace(f"{mine}:make", other))
        with pytest.raises(RunError, match="holds no network"):
            Network.load(tmp_path / "network")
    assert __import__(mine).called == [4]


def test_loading_imports_nothing(mine, tmp_path):
    """Not even from the folder where the program stands, which may be the one that was sent."""
    network = Network.from_function(f"{mine}:make")
    network.save(tmp_path / "network")
    path = tmp_path / "network" / STRUCTURE
    (tmp_path / "sent.py").write_text(SOURCE + "\nopen('ran', 'w').close()\n")
    path.write_text(path.read_text().replace(f"{mine}:make", "sent:make"))
    with pytest.raises(RunError, match=r"made by sent:make, .* if you trust that code, import"):
        Network.load(tmp_path / "network")
    assert not (tmp_path / "ran").exists()
    Network.from_function("sent:make")  # whoever names it trusts it
    Network.load(tmp_path / "network")
    del sys.modules["sent"]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        ("w.safetensors", lambda state: state),
        ("w.pt", lambda state: state),
        ("w.pth", lambda state: {"epoch": 3, "state_dict": state}),
        ("w.pt", lambda state: {"model": {f"module.{key}": v for key, v in state.items()}}),
    ],
)
def test_weights_are_read_in_every_usual_form(tmp_path, name, wrapped):
    given, found = net(), net()
    file = tmp_path / name
    state = wrapped(given.state_dict())
    (save_file if file.suffix == ".safetensors" else torch.save)(state, file)
    load_weights(found, file)
    assert state_digest(found) == state_digest(given)


class Evil:
    """Would do something when it is unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


def without_bias() -> dict:
    state = net().state_dict()
    del state["0.bias"], state["1.bias"]
    return state


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without_bias(), "lacks '0.bias' and 1 more"),
        (net().state_dict() | {"2.weight": torch.zeros(1)}, "has not: '2.weight'"),
        (net().state_dict() | {"0.bias": torch.zeros(4)}, r"'0.bias' has shape \(4,\), .* \(3,\)"),
        ({"state_dict": Evil()}, "holds more than tensors: save 'module.state_dict"),
        (net(), "holds more than tensors"),
        ({"epoch": 3}, "holds no state_dict"),
        (torch.zeros(3), "holds no state_dict"),
        (b"", "holds no weights that can be read"),
        (b"garbage", "(holds no weights that can be read|more than tensors)"),
        (None, "there is no such file"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(tmp_path, content, words, capsys):
    file = tmp_path / "w.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(NetworkError, match=words) as caught:
        load_weights(net(), file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "unpickled" not in capsys.readouterr().out


def test_network_of_a_function_takes_weights(mine, tmp_path):
    given = Network.from_function(f"{mine}:make", seed=7)
    save_file(given.module.state_dict(), tmp_path / "w.safetensors")
    found = Network.from_function(f"{mine}:make", weights=tmp_path / "w.safetensors")
    assert state_digest(found.module) == state_digest(given.module)
