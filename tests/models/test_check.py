import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from nasplatform.errors import NetworkError
from nasplatform.models.check import checked
from nasplatform.models.network import Network
from nasplatform.models.structure import Structure
from nasplatform.testing.tiny import tiny_network, tiny_task

TASK = tiny_task()  # 1 x 8 x 8 images of 3 classes


def network(module: nn.Module) -> Network:
    return Network(module, Structure({"module": "tests:none", "options": {}}))


def linear(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # people still bring such networks
        return torch.jit.script(linear())


class Returning(nn.Module):
    """Makes something of the logits of a linear layer."""

    def __init__(self, make):
        super().__init__()
        self.inner = linear()
        self.make = make

    def forward(self, x):
        return self.make(self, x, self.inner(x))


def returning(make) -> nn.Module:
    return Returning(make)


def test_good_network_is_kept_and_learns_what_the_images_are():
    given = tiny_network()
    found = checked(given, TASK)
    assert found.module is given.module
    assert found.structure.edits == ()
    assert found.structure.input == {
        "task": "tiny",
        "data_sha256": TASK.digest,
        "white": 255.0,
        "shape": [1, 8, 8],
        "mean": list(TASK.mean),
        "std": list(TASK.std),
        "classes": 3,
    }
    assert Structure.from_json(found.structure.to_json()) == found.structure


@pytest.mark.parametrize(
    "make",
    [
        lambda self, x, logits: {"aux": logits * 2, "out": logits},
        lambda self, x, logits: {"out": logits * 2, "logits": logits},
        lambda self, x, logits: (x, logits, logits * 2),
        lambda self, x, logits: [logits],
        lambda self, x, logits: (logits, logits * 2) if self.training else logits,
    ],
)
def test_main_output_is_taken_by_the_rule(make):
    module = returning(make).eval()
    images = TASK.test.inputs[:]
    with torch.no_grad():
        found = checked(network(module), TASK)
        assert torch.equal(found.module.eval()(images), module.inner(images))
        assert found.module.train()(images).shape == (len(images), 3)
    assert [edit.kind for edit in found.structure.edits] == ["main-output"]


class OtherInTraining(nn.Module):
    """A batch normalisation whose statistics a check must not change."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.inner = linear()

    def forward(self, x):
        return self.inner(self.norm(x))


def test_a_look_changes_nothing():
    module = OtherInTraining()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.random.get_rng_state()
    checked(network(module), TASK)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def frozen() -> nn.Module:
    return linear().requires_grad_(False)


def with_lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def first(kind: str) -> nn.Module:
    module = linear()
    if kind == "meta":
        return module.to("meta")
    return module.to(getattr(torch, kind))


def not_a_number() -> nn.Module:
    module = linear()
    module[1].weight.data[0, 0] = float("nan")
    return module


class Uncopied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = linear()
        self.kept = self.inner[1].weight * 2  # no leaf: torch does not copy it

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (scripted(), "is compiled by TorchScript"),
        (nn.Sequential(scripted()), "part '0' of the network is compiled"),
        (nn.DataParallel(linear()), r"is a DataParallel: give its '\.module'"),
        (with_lazy(), "'1.weight' is not initialised"),
        (first("double"), r"'1\.weight' is float64, expected float32: call '\.float\(\)'"),
        (first("bfloat16"), "'1.weight' is bfloat16"),
        (first("meta"), "'1.weight' is on device meta, expected the CPU"),
        (nn.Flatten(), "has no parameters"),
        (frozen(), "every parameter is frozen"),
        (linear(10), "has 10 outputs, task 'tiny' has 3 classes"),
        (nn.Conv2d(1, 3, 1), r"a tensor of shape \(3, 3, 8, 8\) of 3 images, expected \(3, 3\)"),
        (nn.Conv2d(3, 3, 1), "images of 1 x 8 x 8, .* takes 3 channels, but was given 1"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(49, 3)),
            "layer '1' takes 49 features, but was given 64",
        ),
        (not_a_number(), "outputs are not all finite"),
        (Uncopied(), "cannot be copied"),
        (returning(lambda self, x, y: {"features": y}), "mapping with features, expected 'logits'"),
        (returning(lambda self, x, y: (x, x)), r"2 things, none of them a tensor of shape"),
        (returning(lambda self, x, y: None), "returns a NoneType"),
        (returning(lambda self, x, y: y.double()), "outputs are float64"),
        (returning(lambda self, x, y: y - y.mean(0)), "depends on the others of its batch"),
        (returning(lambda self, x, y: y + torch.rand_like(y)), "other outputs the second time"),
        (returning(lambda self, x, y: y.view(3, -1)), r"shape \(3, 1\) of 1 images"),
        (returning(lambda self, x, y: y + torch.fft.fft(y).real), "'_fft_r2c' cannot be counted"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(module, words):
    with pytest.raises(NetworkError, match=words) as caught:
        checked(network(module), TASK)
    assert "\n" not in str(caught.value)


def test_more_classes_than_outputs_are_refused():
    with pytest.raises(NetworkError, match="task 'tiny' has 4 classes"):
        checked(network(linear()), replace(TASK, classes=4))
