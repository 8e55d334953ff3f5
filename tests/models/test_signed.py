import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.errors import NetworkError
from nasplatform.models.edits import Edit
from nasplatform.models.network import Network
from nasplatform.models.signed import rectifying_calls, sign_activations

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """``a`` and ``b`` with a rectifier of each kind before ``b`` and ``c``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, 2, 1)
        self.act, self.c = nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.a(x)))
        return self.head(self.c(self.act(x)).relu().mean((2, 3)))


def images() -> Tensor:
    return torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(0))


def payload(**changes):
    empty = {"rectifiers": [], "functions": [], "convolutions": {}}
    return empty | changes


def test_rectifiers_go_and_prelu_stands_before_what_follows():
    net = Net()
    entries = {"b": {"channels": 8}, "c": {"channels": 8, "stride": [1, 1]}}
    edited = sign_activations(
        copy.deepcopy(net),
        payload(rectifiers=["act"], functions=["relu"], convolutions=entries),
    )
    x = net.b(net.a(images()))
    x = torch.where(x > 0, x, 0.25 * x)
    y = net.c(x)
    y = x + torch.where(y > 0, y, 0.25 * y)
    expected = net.head(functional.relu(y).mean((2, 3)))
    torch.testing.assert_close(edited(images()), expected)


def test_shortcut_averages_and_fills_up_with_zeros():
    net = Net()
    entries = {"b": {"channels": 8, "stride": [2, 2]}}
    edited = sign_activations(copy.deepcopy(net), payload(convolutions=entries))
    x = torch.relu(net.a(images()))
    made = functional.prelu(net.b(x), torch.full((8,), 0.25))
    for channel in range(6):
        for row in range(4):
            window = x[:, channel, 2 * row : 2 * row + 2, :2]
            made[:, channel, row, 0] += window.mean((1, 2))
    given = {}
    edited.act.register_forward_hook(lambda module, inputs, output: given.update(x=inputs[0]))
    edited(images())
    torch.testing.assert_close(given["x"][:, :, :, 0], made[:, :, :, 0])
    torch.testing.assert_close(given["x"][:, 6:], made[:, 6:])


def test_calls_in_front_of_named_layers_only():
    net = Net()
    weighted = ("a", "b", "c", "head")
    assert rectifying_calls(net, ("b",), weighted, SHAPE) == ["relu"]
    assert rectifying_calls(net, ("c",), weighted, SHAPE) == []  # a module, not a call
    assert rectifying_calls(net, ("head",), weighted, SHAPE) == ["relu_1"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["branches", "drops", "counts", "raises"])
def test_what_is_no_graph_is_not_traced(kind, training):
    """A traced graph would forget the mode, or it cannot be made."""

    class Changing(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x))
            if kind == "branches" and self.training:
                x = x * 2
            if kind == "drops":
                x = functional.dropout(x, 0.5, self.training)
            if kind == "counts":
                x = x * len(images()) if x.shape[0] == 2 else x
            if kind == "raises" and float(x.sum()) > 1e9:
                return x
            return self.head(self.c(self.b(x)).mean((2, 3)))

    assert (
        rectifying_calls(Changing().train(training), ("b",), ("a", "b", "c", "head"), SHAPE) == []
    )


def test_calls_that_are_not_there_are_refused():
    with pytest.raises(NetworkError, match="no call 'relu_7'"):
        sign_activations(Net(), payload(functions=["relu_7"]))


def test_edit_is_done_again_when_a_network_is_loaded(tmp_path):
    network = Network.named("resnet", depth=8, width=4, input_shape=SHAPE, classes=4)
    entries = {"body.1.first.0": {"channels": 8, "stride": [2, 2]}}
    edit = Edit("signed-activations", 1, payload(functions=["relu_1"], convolutions=entries))
    changed = network.edited(edit.apply(network.module), edit)
    changed.save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network")
    assert torch.equal(loaded.module.eval()(images()), changed.module.eval()(images()))
    assert "body.1.first.0.inner.1.weight" in loaded.module.state_dict()
