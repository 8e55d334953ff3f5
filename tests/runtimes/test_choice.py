import re

import numpy as np
import pytest
import torch
from torch import nn

from nasplatform import plugins
from nasplatform.errors import BuildError, MissingExtraError, PluginError
from nasplatform.runtimes import deployed
from nasplatform.runtimes.base import Costs, Deployed, Runtime, Session
from nasplatform.runtimes.choice import choose_runtime, open_session

SHAPE = (1, 8, 8)


class Baked(nn.Module):
    """Its trace answers for as many images as it was traced with."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x):
        return self.linear(x.reshape(len(x) // 1, 64))


class Strange(nn.Module):
    """Has a part that ONNX cannot express."""

    def forward(self, x):
        return torch.histc(x[:, 0, 0, :3], 3).expand(len(x), 3)


class Off(Session):
    """Answers otherwise than torch, or not at all."""

    runtime, threads = "off", 1

    def __init__(self, answer):
        self.answer = answer

    def run(self, images):
        return self.answer(images)


class OffRuntime(Runtime):
    name = "off"
    preference = 99
    answer = staticmethod(lambda images: zeros(len(images)))

    def available(self):
        return None if self.answer else "is broken here"

    def compile(self, module, input_shape, threads=1):
        return Off(self.answer)


@pytest.fixture
def off(monkeypatch):
    get, working = plugins.get, plugins.working
    monkeypatch.setattr(
        plugins, "get", lambda kind, name: OffRuntime if name == "off" else get(kind, name)
    )
    monkeypatch.setattr(plugins, "working", lambda kind: working(kind) | {"off": OffRuntime})
    return monkeypatch


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def test_best_available_runtime_is_the_default(off):
    assert choose_runtime().name == "off"
    off.setattr(OffRuntime, "answer", None)
    assert choose_runtime().name == "onnxruntime"
    assert choose_runtime("torch").name == "torch"


def test_runtime_that_is_unknown_or_not_there_is_refused(off):
    with pytest.raises(PluginError, match="did you mean 'onnxruntime'"):
        choose_runtime("onnxrutnime")
    off.setattr(OffRuntime, "answer", None)
    with pytest.raises(MissingExtraError, match="runtime 'off' is broken here"):
        open_session(linear(), SHAPE, "off")


def test_session_is_of_the_runtime_asked_for():
    for name in ("torch", "onnxruntime"):
        chosen = open_session(linear(), SHAPE, name, (1, 64), threads=2)
        assert (chosen.session.runtime, chosen.session.threads, chosen.note) == (name, 2, "")


def test_network_that_bakes_the_batch_is_left_to_torch():
    chosen = open_session(Baked(), SHAPE, "onnxruntime", (1, 64))
    assert chosen.session.runtime == "torch"
    assert chosen.note.startswith("onnxruntime was not used: it ")
    assert "64" in chosen.note
    images = np.random.default_rng(0).standard_normal((64, *SHAPE)).astype(np.float32)
    assert chosen.session.run(images).shape == (64, 3)


def test_part_that_onnx_lacks_is_left_to_torch_without_a_word(capfd):
    chosen = open_session(Strange(), SHAPE, "onnxruntime", (1, 64))
    assert chosen.session.runtime == "torch"
    assert "ONNX cannot express" in chosen.note
    assert "\n" not in chosen.note
    assert capfd.readouterr() == ("", "")


def zeros(images):
    return np.zeros((images, 3), np.float32)


def fails(images):
    raise OSError("no such instruction")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda images: np.zeros((len(images), 3), np.float32), "logits differ from torch's by"),
        (
            lambda images: np.zeros((4, 3), np.float32),
            r"makes \(4, 3\) of 1 images, torch \(1, 3\)",
        ),
        (
            lambda images: np.full((len(images), 3), np.nan, np.float32),
            "differ from torch's by nan",
        ),
        (fails, "fails on a batch of 1: OSError: no such instruction"),
    ],
)
def test_wrong_answers_are_left_to_torch(off, answer, words):
    off.setattr(OffRuntime, "answer", staticmethod(answer))
    chosen = open_session(linear(), SHAPE)
    assert chosen.session.runtime == "torch"
    assert re.search(words, chosen.note)


def test_compiling_that_fails_is_left_to_torch(off):
    def compile_(*_):
        raise BuildError("it knows no linear layers")

    off.setattr(OffRuntime, "compile", compile_)
    assert open_session(linear(), SHAPE).note == "off was not used: it knows no linear layers"


class Silent(Session):
    """A session that does not name its runtime."""

    def run(self, images):
        return images


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Silent(), "reads a Silent, expected a Deployed"),
        (Deployed(Silent(), SHAPE, None, Costs(*[1] * 6)), "Silent has runtime = None, expected t"),
    ],
)
def test_what_a_runtime_reads_is_looked_at(monkeypatch, tmp_path, made, words):
    class Odd(OffRuntime):
        def read(self, path, threads=1):
            return made

    monkeypatch.setattr(deployed, "_runtimes", lambda: {".odd": Odd()})
    with pytest.raises(BuildError, match=f"runtime 'off'.*{words}"):
        deployed.open_deployed(tmp_path / "network.odd")


def test_attention_goes_through_onnx():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x):
            return self.layer(x[:, 0]).mean(1)

    assert open_session(Attends(), SHAPE, "onnxruntime", (1, 5)).note == ""
