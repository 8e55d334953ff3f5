"""What random networks seldom meet: one test for each way to be a little wrong in a kernel."""

import numpy as np
import pytest
import torch
from binary_networks import all_outputs, stirred_norm
from torch import nn
from torch.nn import functional

from nasplatform.models.binary import BinaryConv2d
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.plan import Constants
from nasplatform.runtimes.packed.reference import run_reference


def conv(inputs, outputs, **more):
    kernel = more.pop("kernel", (3, 3))
    groups = more.get("groups", 1)
    weight = torch.randn(outputs, inputs // groups, *kernel)
    return BinaryConv2d.from_signs(weight, torch.rand(outputs) + 0.1, **more)


def exactly(module, images):
    """Every path makes what torch and the reference make, bit for bit."""
    program = lowered(module.eval(), images.shape[1:])
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    for found in (run_reference(program, images), *all_outputs(program, images)):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("inputs", "kernel"), [(2100, (1, 1)), (130, (5, 5))])
def test_sums_of_many_signs_that_are_all_alike(inputs, kernel, sign):
    """Counters of eight bits are emptied before they are full."""
    layer = BinaryConv2d.from_signs(torch.ones(3, inputs, *kernel), torch.ones(3))
    images = np.full((2, inputs, 5, 6), sign, np.float32)
    module = nn.Sequential(layer, nn.Flatten())
    assert np.abs(module(torch.from_numpy(images)).detach()).min() == inputs * np.prod(kernel)
    exactly(module, images)


@pytest.mark.parametrize("inputs", [3, 16, 40, 70])
@pytest.mark.parametrize("shift", [False, True])
def test_zeros_of_both_signs_are_positive_and_what_is_no_number_is_not(inputs, shift):
    torch.manual_seed(0)
    values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1.0, -1.0], np.float32)
    images = np.random.default_rng(0).choice(values, (3, inputs, 6, 7))
    by = torch.randn(inputs).sign() * (torch.arange(inputs) % 2) if shift else None
    exactly(nn.Sequential(conv(inputs, 20, shift=by), nn.Flatten()), images)


@pytest.mark.parametrize(
    "second",
    [
        {"padding": (1, 0)},
        {"padding": (0, 2)},
        {"padding": "same", "kernel": (2, 3)},
        {"padding": (2, 1), "stride": (1, 2), "dilation": (2, 1)},
        {"padding": (1, 1), "shift": 40},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # of torch, slower that way
def test_bits_are_put_where_the_next_layer_reads_them(second):
    """Two layers of which the first decides the bits of the second, windows of unequal sides."""
    torch.manual_seed(0)
    if "shift" in second:
        second = {**second, "shift": torch.randn(second["shift"])}
    body = (conv(20, 40, padding=(1, 0)), stirred_norm(40), nn.PReLU(40), conv(40, 18, **second))
    module = nn.Sequential(*body, nn.Flatten()).eval()
    images = np.random.default_rng(0).standard_normal((3, 20, 8, 9)).astype(np.float32)
    program = lowered(module, images.shape[1:])
    assert Constants(program).fused.keys() == {0}
    expected = run_reference(program, images)
    for found in all_outputs(program, images):
        assert np.array_equal(found, expected)
    assert np.allclose(expected, module(torch.from_numpy(images)).detach(), atol=1e-4)


@pytest.mark.parametrize("shift", [None, 2.0, -4.0])
def test_a_sum_that_is_exactly_zero_is_positive_for_the_next_layer(shift):
    """With its shift; of four inputs every third sum or so is."""
    torch.manual_seed(0)
    first = BinaryConv2d.from_signs(torch.randn(20, 4, 1, 1), torch.ones(20))
    by = None if shift is None else torch.full((20,), shift)
    module = nn.Sequential(first, conv(20, 9, shift=by), nn.Flatten())
    images = np.random.default_rng(0).standard_normal((3, 4, 6, 6)).astype(np.float32)
    moved = first(torch.from_numpy(images)) + (shift or 0.0)
    assert 0.01 < float((moved == 0).float().mean()) < 0.6
    assert Constants(lowered(module.eval(), (4, 6, 6))).fused.keys() == {0}
    exactly(module, images)


def test_groups_and_other_readers_keep_the_floats_of_a_layer():
    torch.manual_seed(0)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = conv(6, 6, padding=(1, 1)), conv(6, 6, padding=(1, 1))

        def forward(self, x):
            x = self.first(x)
            return (self.second(x) + x).flatten(1)

    class Beside(nn.Module):
        """The sums of one are added to those of the other."""

        def __init__(self):
            super().__init__()
            self.first, self.second = conv(6, 6, padding=(1, 1)), conv(6, 6, padding=(1, 1))

        def forward(self, x):
            return (self.first(x) + self.second(x)).flatten(1)

    images = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    grouped = nn.Sequential(conv(6, 6), conv(6, 6, groups=2), nn.Flatten())
    for module in (Twice(), Beside(), grouped):
        assert not Constants(lowered(module.eval(), (6, 5, 5))).fused
        exactly(module, images)


POOLS = {
    "dilated": lambda x: functional.max_pool2d(x, (2, 3), 1, 0, (3, 2)),
    "padded": lambda x: functional.avg_pool2d(x, (3, 2), (2, 1), (1, 0)),
    "padding-not-counted": lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "ceil": lambda x: functional.max_pool2d(x, 2, 3, ceil_mode=True),
    "all-negative": lambda x: functional.max_pool2d(x.clamp(max=-1.0), 3, 1, 1),
    "rows": lambda x: x[:, :, 3::2],
    "columns": lambda x: x[:, :, :, 2::3],
    "both": lambda x: x[:, 1:4, 1::2, 4:],
    "pad-channels": lambda x: functional.pad(x, (0, 0, 0, 0, 2, 1)),
    "crossed": lambda x: torch.cat([x[:, 3:], x[:, :3], x[:, 1:2]], 1),
}


@pytest.mark.parametrize("name", POOLS)
def test_poolings_and_parts_of_maps_that_are_not_square(name):
    class Net(nn.Module):
        def forward(self, x):
            return POOLS[name](x).flatten(1)

    images = np.random.default_rng(0).standard_normal((3, 5, 9, 7)).astype(np.float32)
    program = lowered(Net().eval(), images.shape[1:])
    expected = Net()(torch.from_numpy(images)).numpy()
    for found in (run_reference(program, images), *all_outputs(program, images)):
        assert np.allclose(found, expected, atol=1e-6)


def test_an_order_of_maps_is_kept():
    """Scale, bias, slope, norm and clamp do not commute."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = conv(5, 20, bias=torch.randn(20))
            self.norm, self.slope = stirred_norm(20), nn.PReLU(20, 0.3)
            self.norm.eps = 0.5  # beneath the root, where it can be seen

        def forward(self, x):
            x = self.slope(self.layer(x)).clamp(-3.0, 4.0)
            return (self.norm(x) * 0.5 + 1.25).relu().flatten(1)

    images = np.random.default_rng(0).standard_normal((2, 5, 6, 6)).astype(np.float32)
    module = Net().eval()
    program = lowered(module, (5, 6, 6))
    expected = module(torch.from_numpy(images)).detach().numpy()
    for found in (run_reference(program, images), *all_outputs(program, images)):
        assert np.allclose(found, expected, atol=1e-5)
