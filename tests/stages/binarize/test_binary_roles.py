import pytest
import torch
from signed_networks import CASES, SHAPE, conv, head, nasbench101
from torch import nn

from nasplatform.errors import StageError
from nasplatform.models.signed import rectifying_calls
from nasplatform.stages.binarize.roles import roles


@pytest.mark.parametrize("name", CASES)
def test_layers_are_chosen_by_the_part_they_play(name):
    case = CASES[name]
    module = case.make()
    found = roles(module, SHAPE)
    assert set(found.chosen) == case.chosen
    assert set(found.left) == set(case.left)
    for layer, reason in case.left.items():
        assert reason in found.left[layer]
    assert set(found.rectifiers) == case.rectifiers
    assert module.training


def test_layers_of_a_searched_cell():
    """Of the cell [3M1]1011/110/01/1 two of three projections run beside other layers."""
    found = roles(nasbench101(), SHAPE)
    module = [
        name.removeprefix("layers.1.") for name in found.chosen if name.startswith("layers.1")
    ]
    assert module == [
        "input_op.1.conv_bn_relu.0",
        "vertex_op.1.conv3x3.conv_bn_relu.0",
        "vertex_op.3.conv1x1.conv_bn_relu.0",
    ]
    shortcuts = [n for n, why in found.left.items() if n.startswith("layers.1") and "short" in why]
    assert shortcuts == ["layers.1.input_op.3.conv_bn_relu.0", "layers.1.input_op.4.conv_bn_relu.0"]


@pytest.mark.parametrize("name", CASES)
def test_rectifying_calls_are_found_where_the_graph_is_one(name):
    case = CASES[name]
    module = case.make()
    found = roles(module, SHAPE)
    assert found.functions == (case.calls > 0 or name == "other-way-in-training")
    calls = rectifying_calls(module, found.chosen, tuple(found.left), SHAPE)
    assert len(calls) == case.calls


def test_a_layer_that_is_not_called_is_named():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = conv(3, 8), conv(8, 8), head(8)

        def forward(self, x):
            return self.head(nn.functional.conv2d(self.a(x), self.b.weight))

    found = roles(Functional(), SHAPE)
    assert found.chosen == ()
    assert "not called" in found.left["b"]


def test_network_that_cannot_be_run_is_refused():
    with pytest.raises(StageError, match="cannot be run"):
        roles(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), SHAPE)


def test_the_network_is_left_as_it_was():
    module = CASES["blocks"].make().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    roles(module, SHAPE)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(not child._forward_hooks for child in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
