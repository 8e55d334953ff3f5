import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.pruning.importance import group_scores, l1, taylor
from nasplatform.pruning.tracing import channel_graph
from nasplatform.stages.scop.control import (
    ControlOptions,
    mix,
    mixed,
    recalibrate_batchnorm,
    train_scales,
)
from nasplatform.stages.scop.knockoffs import shuffled
from nasplatform.stages.scop.score import scop
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.seeding import derive_seed, seeded
from nasplatform.training.task import Task


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestMix:
    def test_against_loops(self):
        made = torch.randn((6, 2, 3, 3), generator=rng())
        scale = torch.tensor([0.25, 1.0])
        found = mix(made, scale)
        for b in range(3):
            for c, beta in enumerate(scale.tolist()):
                expected = beta * made[b, c] + (1 - beta) * made[b + 3, c]
                torch.testing.assert_close(found[b, c], expected)
        assert torch.equal(found[3:], made[3:])

    def test_works_on_features_without_places(self):
        assert mix(torch.randn(4, 5), torch.zeros(5)).shape == (4, 5)

    def test_channels_may_lie_on_the_last_axis(self):
        made, scale = torch.randn(4, 3, 5, generator=rng()), torch.rand(5, generator=rng(1))
        expected = mix(made.transpose(1, 2), scale).transpose(1, 2)
        torch.testing.assert_close(mix(made, scale, axis=-1), expected)

    def test_scales_of_one_leave_the_real_half_alone_and_of_zero_replace_it(self):
        module, task = tiny_network().module, tiny_task()
        real, fake = task.test.inputs[:5], task.valid.inputs[:5]
        names = [layer.name for layer in channel_graph(module, task.input_shape).producers]
        widths = {name: module.get_submodule(name).weight.shape[0] for name in names}
        with torch.no_grad():
            plain, other = module(real), module(fake)
            with mixed(module, {name: torch.ones(width) for name, width in widths.items()}):
                both = module(torch.cat([real, fake]))
            torch.testing.assert_close(both, torch.cat([plain, other]))
            with mixed(module, {name: torch.zeros(width) for name, width in widths.items()}):
                replaced = module(torch.cat([real, fake]))
        torch.testing.assert_close(replaced, torch.cat([other, other]))
        assert all(not child._forward_hooks for child in module.modules())


def by_hand(module: nn.Module, task: Task, seed: int, rate: float, batch: int) -> Tensor:
    """Return the scales after one epoch: SCOP's control step written down on its own.

    Adam with betas .5 and .9 on the loss of the real half; normalisation by the batch's moments.
    """
    beta, first, second = torch.full((16,), 0.5), torch.zeros(16), torch.zeros(16)
    draws = rng(derive_seed(seed, 0))
    parts = torch.randperm(len(task.train), generator=draws).split(batch)
    for step, rows in enumerate(parts, start=1):
        real, labels = task.train.inputs[rows], task.train.labels[rows]
        both = torch.cat([real, shuffled(real, draws)])
        beta.requires_grad_()
        made = nn.functional.conv2d(both, module.conv.weight)
        mean = beta[:, None, None] * made[:batch] + (1 - beta[:, None, None]) * made[batch:]
        mixed_in = torch.cat([mean, made[batch:]])
        centred = mixed_in - mixed_in.mean((0, 2, 3), keepdim=True)
        spread = (centred**2).mean((0, 2, 3), keepdim=True) + module.norm.eps
        norm = module.norm
        scaled = centred / spread.sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
        logits = module.head(scaled.relu().flatten(1))[:batch]
        loss = -logits.log_softmax(1)[torch.arange(batch), labels].mean()
        (slope,) = torch.autograd.grad(loss, beta)
        first = 0.5 * first + 0.5 * slope
        second = 0.9 * second + 0.1 * slope**2
        move = first / (1 - 0.5**step) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
        beta = (beta.detach() - rate * move).clamp(0, 1)
    return beta


def test_a_control_step_is_the_one_made_by_hand(planted):
    module, task = planted
    options = ControlOptions(epochs=1, batch_size=100, learning_rate=0.03, stop_at=1.0)
    found = train_scales(module, ["conv"], task, shuffled, options, 5)["conv"]
    expected = by_hand(module, task, 5, 0.03, 100)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert float((found - 0.5).abs().min()) > 1e-3


class TestTrainScales:
    def run(self, module, names, seed=0, **options):
        values = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "stop_at": 1.0} | options
        task = tiny_task()
        return train_scales(module, names, task, shuffled, ControlOptions(**values), seed)

    def names(self, module):
        return [layer.name for layer in channel_graph(module, (1, 8, 8)).producers]

    def test_network_is_untouched_and_scales_stay_within_bounds(self):
        module = tiny_network().module
        before, rows = state_digest(module), self.names(module)
        scales = self.run(module, rows, learning_rate=1.0)
        assert state_digest(module) == before
        assert all(parameter.grad is None for parameter in module.parameters())
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert list(scales) == rows
        every = torch.cat(list(scales.values()))
        assert float(every.min()) == 0.0
        assert float(every.max()) == 1.0

    def test_only_the_scales_learn(self, monkeypatch):
        seen = []
        spied = SimpleNamespace(deepcopy=lambda x: seen.append(copy.deepcopy(x)) or seen[-1])
        monkeypatch.setattr("nasplatform.stages.scop.control.copy", spied)
        module = tiny_network().module
        self.run(module, self.names(module))
        weights = dict(module.named_parameters())
        assert all(torch.equal(weights[k], v) for k, v in seen[0].named_parameters())
        assert all(parameter.grad is None for parameter in seen[0].parameters())

    def test_follows_the_seed(self):
        module = tiny_network().module
        names = self.names(module)
        first, second = self.run(module, names), self.run(module, names)
        other = self.run(module, names, seed=1)
        assert all(torch.equal(first[name], second[name]) for name in names)
        assert any(not torch.equal(first[name], other[name]) for name in names)

    def test_ends_where_the_mean_says_so(self):
        module, said = tiny_network().module, []
        names, task = self.names(module), tiny_task()
        options = ControlOptions(epochs=50, batch_size=16, learning_rate=0.02, stop_at=0.55)
        scales = train_scales(
            module, names, task, shuffled, options, 0, progress=lambda *step: said.append(step)
        )
        mean = float(torch.cat(list(scales.values())).mean())
        assert 0.55 <= mean < 0.55 + 0.02
        assert 3 <= len(said) < 50 * 3
        assert said[-1][0] == said[-1][1] == 150

    def test_divergence_is_an_error(self):
        module = tiny_network().module
        module.classifier.weight.data.fill_(float("nan"))
        with pytest.raises(StageError, match="scales diverged"):
            self.run(module, self.names(module))


def test_refreshed_statistics_are_those_of_the_images(monkeypatch):
    monkeypatch.setattr("nasplatform.stages.scop.control.EVALUATION_BATCH", 16)
    module, task = tiny_network().module, tiny_task()
    before = state_digest(module)
    found = recalibrate_batchnorm(module, task.train.inputs[:])
    assert state_digest(module) == before
    assert not found.training
    name = next(name for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d))
    made = []
    first = next(child for child in module.modules() if isinstance(child, nn.Conv2d))
    hook = first.register_forward_hook(lambda layer, given, output: made.append(output))
    module(task.train.inputs[:])
    hook.remove()
    norm = found.get_submodule(name)
    torch.testing.assert_close(norm.running_mean, made[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    batches = [part.var((0, 2, 3)) for part in made[0].split(16)]
    torch.testing.assert_close(norm.running_var, torch.stack(batches).mean(0))


def planted_task(n: int = 600) -> Task:
    """Two classes told by the mean of the left half; the right half is noise of equal strength."""
    draw = np.random.Generator(np.random.PCG64(0))

    def part(count):
        labels = np.arange(count, dtype=np.int64) % 2
        images = draw.normal(0, 1, (count, 1, 8, 8))
        images[:, 0, :, :4] += (labels * 2.0 - 1)[:, None, None]
        return images, labels

    return standardised_task("planted", [part(n), part(200), part(200)], "planted")


class Planted(nn.Module):
    """16 channels, of which the first half sees the left of the image, the other the right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 8, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


def auc(scores: np.ndarray, relevant: np.ndarray) -> float:
    wins = scores[relevant][:, None] > scores[~relevant]
    ties = scores[relevant][:, None] == scores[~relevant]
    return float((wins + 0.5 * ties).mean())


@pytest.fixture(scope="module")
def planted():
    task = planted_task()
    with seeded(0):
        module = Planted()
    weight = module.conv.weight.data
    weight[:8, :, :, 4:] = 0
    weight[8:, :, :, :4] = 0
    # filters of equal size everywhere; the last layer listens to all of them alike
    weight[:8, :, :, :4] = (
        weight[:8, :, :, :4].abs() * torch.tensor([1, -1] * 4)[:, None, None, None]
    )
    weight /= weight.flatten(1).norm(dim=1)[:, None, None, None]
    with torch.no_grad():
        module.train()
        for _ in range(60):
            module(task.train.inputs[:])
        module.eval()
        generator = rng(3)
        module.head.weight.copy_(torch.sign(torch.randn(2, 16, generator=generator)))
        module.head.weight[0, :8] = torch.tensor([-1.0, 1.0] * 4)
        module.head.weight[1] = -module.head.weight[0]
    return module, task


def test_planted_irrelevant_channels_rank_below_relevant_ones(planted):
    module, task = planted
    graph = channel_graph(module, task.input_shape)
    relevant = np.isin(graph.removable, graph.layers["conv"].outputs[:8])
    assert relevant.sum() == 8
    options = ControlOptions(epochs=10)
    scales = train_scales(module, ["conv"], task, shuffled, options, 0)
    found = group_scores(graph, scop(module, graph, scales))
    assert auc(found, relevant) >= 0.95
    # the size of filters tells nothing here: all are equal
    by_size = group_scores(graph, l1(module, graph))
    np.testing.assert_allclose(by_size, module.conv.weight.detach().abs().sum((1, 2, 3)), rtol=1e-5)
    assert auc(by_size, relevant) < 0.8
    assert auc(group_scores(graph, taylor(module, graph, task)), relevant) < auc(found, relevant)


def test_scop_score():
    module = nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    ).eval()
    graph = channel_graph(module, (1, 8, 8))
    module[1].weight.data = torch.tensor([1.0, -2.0, 0.5, 1.0, 1.0, 0.0])
    scales = {"0": torch.tensor([0.0, 1.0, 0.75, 0.5, 0.25, 1.0]), "2": torch.ones(5)}
    found = scop(module, graph, scales)
    assert found["0"].tolist() == pytest.approx([-1, 2, 0.25, 0, -0.5, 0])
    groups = group_scores(graph, found)
    by_group = dict(zip(graph.removable.tolist(), groups.tolist(), strict=True))
    assert [by_group[g] for g in graph.layers["0"].outputs.tolist()] == found["0"].tolist()
