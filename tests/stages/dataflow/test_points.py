import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nasplatform.spaces import get_space
from nasplatform.stages.dataflow import FeaturePoint, feature_points
from nasplatform.testing.tiny import tiny_network


def points(module: nn.Module, shape=(3, 8, 8)) -> dict[str, FeaturePoint]:
    return {point.name: point for point in feature_points(module, shape)}


def readers(module: nn.Module, point: FeaturePoint) -> set[tuple[str, int, int, int]]:
    names = {child: name for name, child in module.named_modules()}
    return {(names[r.layer], r.start, r.first, r.length) for r in point.readers}


class Branches(nn.Module):
    """a and b are concatenated, the last channel is cut off, then c and d read the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.b = nn.Conv2d(3, 5, 1)
        self.c = nn.Conv2d(8, 2, 1)
        self.d = nn.Conv2d(4, 8, 3)
        self.e = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x):
        a = self.a(x)
        joined = functional.avg_pool2d(torch.cat([a, self.b(x)], dim=1)[:, :8], 2)
        return self.c(joined + self.e(joined)).mean((2, 3)) + self.d(a).mean((2, 3))[:, :2]


def test_concatenations_slices_sums_and_poolings_are_followed():
    module = Branches()
    found = points(module)
    assert set(found) == {"a.2", "b", "e"}  # c and d make the logits
    assert readers(module, found["a.2"]) == {("c", 0, 0, 4), ("d", 0, 0, 4), ("e", 0, 0, 4)}
    assert readers(module, found["b"]) == {("c", 4, 0, 4), ("e", 4, 0, 4)}
    assert readers(module, found["e"]) == {("c", 0, 0, 8)}
    assert found["a.2"].shape == (4, 8, 8)


def test_point_ends_after_normalisation_and_activations_even_in_place():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Hardswish(inplace=True),
        nn.Conv2d(4, 2, 3),
    )
    found = points(module)
    assert set(found) == {"3"}
    assert readers(module, found["3"]) == {("4", 0, 0, 4)}
    (before,) = feature_points(module, (3, 8, 8), after_activation=False)
    assert before.name == "0"
    assert readers(module, before) == {("4", 0, 0, 4)}


def test_searched_cell_in_the_order_of_computation():
    module = tiny_network().module
    found = feature_points(module, (1, 8, 8))
    names = [point.name.removesuffix(".conv_bn_relu.2") for point in found]
    # [3M1]1011/110/01/1: the input feeds 1, 3 and the output; 1 feeds 2 and 3; 2 and 3 feed 4
    assert names[:6] == [
        "layers.0",
        "layers.1.input_op.1",
        "layers.1.vertex_op.1.conv3x3",
        "layers.1.input_op.3",
        "layers.1.vertex_op.3.conv1x1",
        "layers.1.input_op.4",
    ]
    shapes = {point.shape[1:] for point in found}
    assert shapes == {(8, 8), (4, 4), (2, 2)}
    by_name = dict(zip(names, found, strict=True))
    # vertex 1 feeds the pooling 2, which feeds the output, and vertex 3
    read_by = {name for name, *_ in readers(module, by_name["layers.1.vertex_op.1.conv3x3"])}
    assert "layers.1.vertex_op.3.conv1x1.conv_bn_relu.0" in read_by
    assert "layers.3.input_op.1.conv_bn_relu.0" in read_by
    # the stem is read by the three projections of the first cell, nothing else
    stem = {name for name, *_ in readers(module, by_name["layers.0"])}
    assert stem == {f"layers.1.input_op.{t}.conv_bn_relu.0" for t in (1, 3, 4)}


def test_every_searched_network_links_every_map_but_the_last_ones():
    space = get_space("nasbench101", stem_channels=8, modules_per_stack=1, input_shape=(1, 8, 8))
    for cell in space.sample(10, np.random.Generator(np.random.PCG64(3))):
        found = feature_points(space.build(cell), (1, 8, 8))
        unread = [point for point in found if not point.readers]
        assert all(point.shape[1:] == (2, 2) for point in unread)


def test_module_keeps_its_mode_and_has_no_hooks_left():
    module = tiny_network().module.train()
    feature_points(module, (1, 8, 8))
    assert module.training
    assert all(not child._forward_hooks for child in module.modules())
