"""Tracing and removal together: whatever a network is made of, cut equals masked."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.errors import StageError
from nasplatform.models.costs import count_parameters
from nasplatform.pruning.equality import check_equal, masked
from nasplatform.pruning.graph import ChannelGraph, cost
from nasplatform.pruning.selection import ranked
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph
from nasplatform.spaces import get_space
from nasplatform.training.evaluation import predict
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded

SHAPE = (3, 8, 8)


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """A ResNet of two stages: identity and projection shortcuts."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = conv_bn(3, width)
        self.first = nn.ModuleList([conv_bn(width, width), conv_bn(width, width)])
        self.second = nn.ModuleList(
            [conv_bn(width, 2 * width, 3, 2), conv_bn(2 * width, 2 * width)]
        )
        self.shortcut = conv_bn(width, 2 * width, 1, 2)
        self.head = nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.first[1](functional.relu(self.first[0](x))))
        inner = self.second[1](functional.relu(self.second[0](x)))
        x = functional.relu(self.shortcut(x) + inner)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Bottleneck(nn.Module):
    """Depthwise with a multiplier, squeeze and excitation, grouped convolution, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = conv_bn(3, 6, 1)
        self.depthwise = conv_bn(6, 12, 3, 2, groups=6)
        self.squeeze = nn.Conv2d(12, 4, 1)
        self.excite = nn.Conv2d(4, 12, 1)
        self.grouped = nn.Conv2d(12, 8, 3, padding=1, groups=4)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.depthwise(functional.relu6(self.expand(x))))
        gate = functional.silu(self.squeeze(x.mean((2, 3), keepdim=True)))
        x = x * torch.sigmoid(self.excite(gate))
        return self.head(functional.gelu(self.grouped(x)).mean((2, 3)))


class Dense(nn.Module):
    """Concatenations of concatenations, flattened into two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(3, 5), conv_bn(8, 4), nn.Conv2d(12, 3, 1)
        self.hidden, self.head = nn.Linear(3 * 16, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([x, functional.relu(self.a(x))], dim=1)
        joined = torch.cat([functional.relu(self.b(joined)), joined], dim=1)
        pooled = functional.max_pool2d(self.c(joined), 2)
        return self.head(functional.relu(self.hidden(pooled.flatten(1))))


class Shared(nn.Module):
    """One convolution is used twice, and its own input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.head = conv_bn(3, 6), conv_bn(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + functional.relu(self.twice(functional.relu(self.twice(x))))
        return self.head(x.mean((2, 3)))


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every number that starts as 0 or 1 a value of its own."""
    rng = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor in (child.weight, child.bias, child.running_mean, child.running_var):
                tensor.data = torch.rand(tensor.shape, generator=rng) + 0.2
        if isinstance(child, nn.Linear):
            child.weight.data = torch.randn(child.weight.shape, generator=rng)
    return module.eval()


def made(kind, seed: int = 0) -> nn.Module:
    with seeded(seed):
        return stirred(kind())


def images(shape=SHAPE) -> Tensor:
    return torch.randn((6, *shape), generator=torch.Generator().manual_seed(1))


def some(graph: ChannelGraph, share: float, seed: int):
    """A random choice of groups that leaves no layer empty."""
    scores = np.random.Generator(np.random.PCG64(seed)).random(len(graph.removable))
    order = np.concatenate([step.groups for step in ranked(graph, scores, "global")])
    return order[: max(1, int(share * len(order)))]


def check_cut(module: nn.Module, shape, share: float, seed: int) -> nn.Module:
    graph = channel_graph(module, shape)
    removed = some(graph, share, seed)
    before = copy.deepcopy(module.state_dict())
    kept = json.loads(json.dumps(kept_channels(graph, removed)))
    small = remove(copy.deepcopy(module), kept)
    expected = masked(module, graph, removed)
    assert check_equal(small, expected, images(shape)) < 1e-5
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    # what is counted on paper is what is there
    traced, left = cost(graph, np.zeros(0, np.int64)), cost(graph, removed)
    for counted, count in ((0, count_macs), (1, count_parameters)):
        assert count(module, shape) - count(small, shape) == traced[counted] - left[counted] > 0
    # the same edit on a module of other weights gives the same shapes
    again = remove(copy.deepcopy(module), kept)
    again.load_state_dict(small.state_dict())
    assert torch.equal(predict(again, images(shape)), predict(small, images(shape)))
    return small


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", [Residual, Bottleneck, Dense, Shared])
def test_cut_equals_masked(kind, seed, share):
    check_cut(made(kind, seed), SHAPE, share, seed)


CELLS = [
    "[3M1]1011/110/01/1",  # the tiny network of the tests
    "[1MMM3]111001/00001/0010/100/10/1",  # poolings in a row, one branch into the output
    "[M1M13]100000/10010/1101/001/10/1",  # concatenated tensors that are summed elsewhere
    "[131MM]100000/10100/1001/001/10/1",
    "[13MMM]100000/10010/1000/111/10/1",
    "[3113M]100000/10000/1001/110/01/1",
    "[3331]10001/1000/101/11/1",
    "[]1",
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("text", CELLS)
def test_cut_equals_masked_on_searched_cells(text, seed):
    """A stem of 10 channels makes vertices of unequal width, which the cell cuts to size."""
    space = get_space(
        "nasbench101", stem_channels=10, modules_per_stack=2, stacks=2, input_shape=SHAPE
    )
    with seeded(seed):
        module = stirred(space.build(space.parse(text)))
    check_cut(module, SHAPE, 0.4, seed)


def test_cut_equals_masked_on_many_searched_cells():
    space = get_space(
        "nasbench101", stem_channels=10, modules_per_stack=1, stacks=2, input_shape=SHAPE
    )
    rng = np.random.Generator(np.random.PCG64(0))
    for seed, cell in enumerate(space.sample(12, rng)):
        with seeded(seed):
            module = stirred(space.build(cell))
        check_cut(module, SHAPE, float(rng.uniform(0.1, 1.0)), seed)


@pytest.mark.parametrize(
    "text",
    [
        "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|",
        "|skip_connect~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|nor_conv_1x1~2|",
        "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|",
    ],
)
def test_cut_equals_masked_on_nasbench201(text):
    space = get_space("nasbench201", input_shape=SHAPE, stem_channels=6, cells_per_stage=1)
    with seeded(0):
        module = stirred(space.build(space.parse(text)))
    check_cut(module, SHAPE, 0.4, 0)


def test_mask_is_that_of_the_channels_after_normalisation():
    """Zero maps, in place of zero weights of their readers: an independent way to mask."""
    module = made(Residual)
    graph = channel_graph(module, SHAPE)
    removed = some(graph, 0.4, 3)
    hooks = []
    for name, layer in graph.layers.items():
        if name in graph.norms.values():
            keep = torch.from_numpy(~np.isin(layer.outputs, removed)).float()[:, None, None]
            norm = module.get_submodule(name)
            hooks.append(norm.register_forward_hook(lambda m, x, y, keep=keep: y * keep))
    expected = predict(module, images())
    for hook in hooks:
        hook.remove()
    small = remove(copy.deepcopy(module), kept_channels(graph, removed))
    torch.testing.assert_close(predict(small, images()), expected, rtol=1e-5, atol=1e-5)


class TestGraph:
    def test_residual_channels_go_together_and_inner_ones_alone(self):
        graph = channel_graph(made(Residual), SHAPE)
        layers = graph.layers
        assert np.array_equal(layers["stem.0"].outputs, layers["first.1.0"].outputs)
        assert np.array_equal(layers["shortcut.0"].outputs, layers["head"].inputs)
        assert np.array_equal(layers["second.1.0"].outputs, layers["head"].inputs)
        assert not np.isin(layers["first.0.0"].outputs, layers["stem.0"].outputs).any()
        assert len(graph.removable) == 6 + 6 + 12 + 12  # two streams, two inner layers
        assert len(np.unique(graph.coupling_classes)) == 4
        assert graph.norms["stem.0"] == "stem.1"

    def test_depthwise_outputs_go_with_their_input_and_grouped_ones_in_step(self):
        graph = channel_graph(made(Bottleneck), SHAPE)
        depthwise, grouped = graph.layers["depthwise.0"], graph.layers["grouped"]
        assert np.array_equal(depthwise.outputs, np.repeat(depthwise.inputs, 2))
        assert len(np.unique(grouped.outputs)) == 2
        assert np.array_equal(graph.layers["excite"].outputs, grouped.inputs)
        # inputs of a grouped convolution go in step too: 12 channels, 4 groups of 3, in pairs
        assert len(np.unique(grouped.inputs)) == 1

    def test_image_and_logits_stay(self):
        graph = channel_graph(made(Dense), SHAPE)
        assert not np.isin(graph.layers["head"].outputs, graph.removable).any()
        assert not np.isin(graph.layers["a.0"].inputs, graph.removable).any()
        assert len(graph.removable) == 5 + 4 + 3 + 7

    def test_first_layer_of_grey_images_is_no_depthwise_one(self):
        network = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 2))
        assert len(channel_graph(network, (1, 8, 8)).removable) == 5


class Sliced(nn.Module):
    """Says in numbers how many channels it takes, of one map only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(4, 5, 1)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x)[:, :4]).mean((2, 3)))


class Attention(Sliced):
    """Mixes channels in a way that is not followed."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.a(x)[:, :4].flatten(2)
        mixed = torch.softmax(maps @ maps.transpose(1, 2), -1) @ maps
        return self.head(self.b(mixed.unflatten(2, (8, 8))).mean((2, 3)))


@pytest.mark.parametrize("kind", [Sliced, Attention])
def test_what_cannot_be_followed_stays_and_the_rest_goes(kind):
    module = made(kind)
    graph = channel_graph(module, SHAPE)
    assert np.array_equal(graph.removable, np.unique(graph.removable))
    assert not np.isin(graph.layers["a"].outputs, graph.removable).any()
    assert np.array_equal(graph.layers["b"].outputs, graph.removable)
    check_cut(module, SHAPE, 0.5, 0)


class Reshaped(nn.Module):
    """Flattens to a fixed number of features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 4, 1), nn.Linear(256, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).view(-1, 256))


def test_network_that_fixes_its_width_in_code_is_refused():
    with pytest.raises(StageError, match=r"the network itself raises .*shape") as caught:
        channel_graph(made(Reshaped), SHAPE)
    assert "\n" not in str(caught.value)


def test_layer_that_does_not_work_any_more_is_named():
    module = made(Residual)
    small = remove(copy.deepcopy(module), {"head": {"inputs": [0], "outputs": [0], "groups": 1}})
    with pytest.raises(StageError, match=r"layer 'head' raises .*shape") as caught:
        check_equal(small, module, images())
    assert "\n" not in str(caught.value)


class Cumulative(nn.Module):
    """Mixes channels in a way that is not followed."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def test_networks_without_removable_channels_are_refused():
    with pytest.raises(StageError, match="no channel that can be removed"):
        channel_graph(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), SHAPE)
    with pytest.raises(StageError, match=r"cannot be traced: layer '1' raises .*5 channels"):
        channel_graph(nn.Sequential(nn.ReLU(), nn.Conv2d(5, 2, 1)), SHAPE)
    strange = nn.Sequential(nn.Conv2d(3, 4, 1), Cumulative(), nn.Flatten(), nn.Linear(256, 2))
    with pytest.raises(StageError, match=r"can be removed: operation 'cumsum' in layer '1' cannot"):
        channel_graph(strange, SHAPE)
    with pytest.raises(StageError, match="does not make one tensor of logits"):
        channel_graph(nn.Conv2d(3, 2, 1), SHAPE)


def test_empty_layer_is_refused_by_name():
    module = made(Residual)
    graph = channel_graph(module, SHAPE)
    with pytest.raises(StageError, match=r"would leave layer 'first\.0\.0' empty"):
        kept_channels(graph, graph.layers["first.0.0"].outputs)


@pytest.mark.parametrize(
    "kept",
    [
        {"none": {"outputs": [0]}},
        {"stem.0": {"outputs": [0]}},
        {"stem.0": {"inputs": [0, 1, 2], "outputs": [99], "groups": 1}},
        {"stem.0": {"inputs": "a", "outputs": 7, "groups": 1}},
    ],
)
def test_description_of_another_network_is_refused(kept):
    with pytest.raises(StageError, match="cannot be cut as described"):
        remove(made(Residual), kept)


def test_wrong_equality_is_noticed():
    first, second = made(Residual), made(Residual, 1)
    with pytest.raises(StageError, match="changes the logits by"):
        check_equal(first, second, images())
