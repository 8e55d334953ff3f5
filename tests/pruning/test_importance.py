import copy
import math

import pytest
import torch
from torch import Tensor, nn

from nasplatform.pruning.importance import bn_scale, fpgm, group_scores, l1, taylor
from nasplatform.pruning.tracing import channel_graph
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.seeding import seeded
from nasplatform.training.task import Task


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain() -> nn.Sequential:
    with seeded(1):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3, padding=1, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 3),
        ).eval()


class TestImportance:
    """Against torch-pruning, on a chain of layers, which it traces."""

    def torch_pruning(self, importance, module):
        import torch_pruning as tp

        graph = tp.DependencyGraph().build_dependency(module, torch.zeros(1, 1, 8, 8))
        found = {}
        for name in ("0", "3"):
            layer = module.get_submodule(name)
            group = graph.get_pruning_group(
                layer, tp.prune_conv_out_channels, list(range(layer.out_channels))
            )
            found[name] = importance(group).tolist()
        return found

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("name", ["l1", "bn_scale", "fpgm"])
    def test_values(self, name, seed):
        from torch_pruning import importance

        module, first = chain(), {"group_reduction": "first", "normalizer": None}
        for child in module:
            if isinstance(child, nn.BatchNorm2d):
                child.weight.data = torch.rand(child.weight.shape, generator=rng(seed)) - 0.5
            if isinstance(child, nn.Conv2d) and name == "fpgm":
                child.weight.data.abs_()  # distances of magnitudes there, of weights here
        ours, theirs = {
            "l1": (l1, importance.GroupMagnitudeImportance(p=1, **first)),
            "bn_scale": (bn_scale, importance.BNScaleImportance(**first)),
            "fpgm": (fpgm, importance.FPGMImportance(p=1, **first)),
        }[name]
        found = ours(module, channel_graph(module, (1, 8, 8)))
        expected = self.torch_pruning(theirs, copy.deepcopy(module))
        for layer in ("0", "3"):
            assert found[layer].tolist() == pytest.approx(expected[layer], rel=1e-3)

    def test_fpgm_is_the_sum_of_distances(self):
        module = chain()
        found = fpgm(module, channel_graph(module, (1, 8, 8)))["0"].tolist()
        rows = module[0].weight.detach().flatten(1).tolist()
        slow = [sum(math.dist(row, other) for other in rows) for row in rows]
        assert found == pytest.approx(slow, rel=1e-3)

    def test_filters_of_a_transposed_convolution_lie_on_its_second_axis(self):
        module = nn.Sequential(
            *(nn.Conv2d(1, 6, 3), nn.ConvTranspose2d(6, 4, 2), nn.AdaptiveAvgPool2d(1)),
            *(nn.Flatten(), nn.Linear(4, 3)),
        )
        graph, task = channel_graph(module, (1, 8, 8)), tiny_task()
        expected = module[1].weight.detach().abs().sum((0, 2, 3))
        torch.testing.assert_close(l1(module, graph)["1"], expected)
        assert fpgm(module, graph)["1"].shape == taylor(module, graph, task)["1"].shape == (4,)

    @pytest.mark.parametrize("normalised", [True, False])
    def test_taylor_is_the_mean_square_of_the_slope_of_a_gate(self, monkeypatch, normalised):
        module, task = chain(), tiny_task()
        if not normalised:
            module[4] = nn.Identity()
        monkeypatch.setattr("nasplatform.pruning.importance.TAYLOR_BATCH", 16)
        found = taylor(module, channel_graph(module, task.input_shape), task)["3"]

        def loss(gate: Tensor, part: slice) -> Tensor:
            maps = module[:5](task.train.inputs[part]) * gate[:, None, None]
            return Task.loss(module[5:](maps), task.train.labels[part])

        squares = [
            torch.autograd.functional.jacobian(
                lambda gate, part=slice(start, start + 16): loss(gate, part), torch.ones(5)
            ).square()
            for start in range(0, 48, 16)
        ]
        torch.testing.assert_close(found, torch.stack(squares).mean(0), rtol=1e-4, atol=1e-9)

    def test_score_of_a_group_is_the_mean_of_its_channels(self):
        class Sum(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.head = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Linear(2, 2)

            def forward(self, x: Tensor) -> Tensor:
                return self.head((self.a(x) + self.b(x)).mean((2, 3)))

        graph = channel_graph(Sum(), (1, 4, 4))
        scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 8.0])}
        assert sorted(group_scores(graph, scores)) == [2.0, 5.0]
