"""Noise acts in training steps alone, in every kind of network, and is counted."""

import copy
from pathlib import Path

import network_kinds as kinds
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nasplatform import plugins
from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext, StageResult
from nasplatform.stages.dataflow import feature_points
from nasplatform.stages.pipeline import make_stage
from nasplatform.stages.regularisation.base import NoisyTraining
from nasplatform.stages.regularisation.injection import Injection, Place, linear_schedule
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.objective import Batch, Supervised

STAGES = [
    name
    for name in plugins.names("stages")
    if issubclass(plugins.get("stages", name), NoisyTraining)
]
EPOCHS, STEPS = 2, 6


def trained(module: nn.Module, folder: Path, stage: str = "disout", **options) -> StageResult:
    """Two epochs of three steps."""
    network = Network(module, tiny_network().structure)
    recipe = {"recipe": {"epochs": EPOCHS, "batch_size": 16}, "start": "given"}
    return make_stage(stage, recipe | options, "test").apply(
        network, tiny_task(), StageContext(folder)
    )


def test_family():
    assert sorted(STAGES) == ["disout", "dropblock", "dropout", "dropout2d"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("make", "maps"),
    [
        (lambda: kinds.gated(linear=False), 2),
        (lambda: kinds.gated(linear=True), 2),
        (kinds.pooled_head, 1),
        (kinds.convolutional_classifier, 2),
        (kinds.to_one_place, 2),
        (kinds.depthwise, 4),
        (kinds.torchvision_like, 3),
        (kinds.Twice, 3),
        (kinds.weight_normed, 2),
        (kinds.Transformer, 7),
        (lambda: kinds.Transformer(library=True), 7),
        (kinds.ChannelsLast, 4),
        (lambda: kinds.frozen(kinds.FrozenNorms), 2),
        (lambda: kinds.frozen(kinds.AlwaysEval), 2),
    ],
)
def test_every_kind_of_network_gets_noise_in_every_step(stage, make, maps, tmp_path):
    result = trained(make(), tmp_path, stage)
    assert result.metrics["distorted_maps"] == maps
    steps = STEPS if stage in ("dropout", "dropout2d") else STEPS - 1  # growing from 0
    assert result.metrics["distortions"] == maps * steps
    assert all(not child._forward_hooks for child in result.network.module.modules())


@pytest.mark.parametrize("kind", [kinds.FrozenNorms, kinds.AlwaysEval])
def test_modules_that_stay_in_evaluation_make_no_difference(kind, tmp_path):
    """The weights learn otherwise than with next to no noise."""
    module, found = kinds.frozen(kind), []
    for prob in (1e-12, 0.5):
        folder = tmp_path / str(prob)
        folder.mkdir()
        result = trained(module, folder, dist_prob=prob)
        found.append(result.network.module[0].weight)
    assert not torch.allclose(*found)


def made(module: nn.Module, noise, after: bool = True, linear: bool = False) -> Injection:
    points = [p for p in feature_points(module, (1, 8, 8), after) if not p.vector]
    places = [Place(point, noise, 0.5) for point in points]
    return Injection(Supervised(tiny_task().loss), places, 0, linear=linear)


def zero(features: Tensor, prob: float, rng: torch.Generator) -> Tensor:
    return torch.zeros_like(features)


BATCH = Batch(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))


def test_a_network_is_judged_without_noise_in_whatever_mode():
    module = kinds.frozen(nn.Sequential)
    plain = module(BATCH.inputs)
    injection = made(module, zero)
    with injection.installed(module):
        assert torch.equal(module(BATCH.inputs), plain)
        with torch.no_grad():
            noisy = injection(module, BATCH)
        assert torch.equal(module.eval()(BATCH.inputs), module(BATCH.inputs))
        assert torch.equal(copy.deepcopy(module)(BATCH.inputs), module(BATCH.inputs))
    # with every map at 0 only the bias of the classifier is left
    assert float(noisy) == pytest.approx(
        float(
            Supervised(tiny_task().loss)(
                lambda images: module[-1].bias.detach().expand(len(images), -1), BATCH
            )
        )
    )
    assert injection.done == [1, 1, 1]


@pytest.mark.parametrize("after", [False, True])
def test_position(after):
    """Before normalisation and activation, or after: what they make of zeros tells."""
    module = kinds.frozen(nn.Sequential).eval()
    nn.init.ones_(module[1].bias)
    injection, seen = made(module, zero, after), []
    module[3].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with injection.installed(module):
        injection(module, BATCH)
    assert bool((seen[0] == (0.0 if after else 1.0)).all())


def test_class_tokens_are_never_touched():
    module = kinds.Transformer()
    injection, seen = made(module, zero), []
    module.blocks[1].mlp[2].register_forward_hook(lambda _, given, made: seen.append(made))
    with injection.installed(module):
        module.blocks[1].mlp[2].register_forward_hook(lambda _, given, made: seen.append(made))
        injection(module, BATCH)
    before, after = seen
    assert torch.equal(before[:, 0], after[:, 0])
    assert bool(before[:, 1:].any())
    assert not after[:, 1:].any()


def test_each_call_of_a_shared_layer_has_its_own_noise():
    module, probs = kinds.Twice(), []
    points = feature_points(module, (1, 8, 8))
    places = [
        Place(point, lambda x, prob, rng: probs.append(prob) or x, prob)
        for point, prob in zip(points, (0.1, 0.2, 0.3), strict=True)
    ]
    injection = Injection(Supervised(tiny_task().loss), places, 0, linear=False)
    with injection.installed(module):
        injection(module, BATCH)
        injection(module, BATCH)
    assert probs == [0.1, 0.2, 0.3] * 2


def test_layers_that_are_computed_again_on_the_way_back_get_the_same_noise():
    class Recomputed(nn.Module):
        def __init__(self, body: nn.Sequential, again: bool) -> None:
            super().__init__()
            self.body, self.again = body, again

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=False) if self.again else self.body(x)

    def some(features, prob, rng):
        return features * (torch.rand(features.shape, generator=rng) < prob)

    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        module = Recomputed(kinds.frozen(kinds.AlwaysEval), again)
        injection = made(module, some)
        with injection.installed(module):
            injection(module, BATCH).backward()
        gradients.append(module.body[0].weight.grad)
    assert torch.equal(*gradients)
    assert bool(gradients[0].any())


def test_draws_follow_from_seed_place_and_step():
    module, drawn = kinds.frozen(nn.Sequential), []

    def draw(features, prob, rng):
        drawn.append(float(torch.rand((), generator=rng)))
        return features

    injection = made(module, draw)
    with injection.installed(module):
        for step in (0, 1, 0):
            injection.on_step(step, 2)
            injection(module, BATCH)
    assert drawn[:3] == drawn[6:]
    assert len(set(drawn)) == 6


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("make", [kinds.depthwise, kinds.Transformer])
def test_mixed_precision(stage, make, tmp_path):
    network = Network(make(), tiny_network().structure)
    recipe = {"epochs": 1, "batch_size": 16, "precision": "bfloat16"}
    chosen = make_stage(stage, {"recipe": recipe, "start": "given"}, "test")
    result = chosen.apply(network, tiny_task(), StageContext(tmp_path))
    assert result.metrics["distorted_maps"] > 3


def test_schedule_is_linear_over_all_steps():
    assert [linear_schedule(step, 4) for step in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert linear_schedule(0, 1) == 1


def test_counts_survive_a_kill(tmp_path):
    """A training that is finished is taken from its checkpoint, with what was done."""
    first = trained(seeded_gated(), tmp_path)
    again = trained(seeded_gated(), tmp_path)
    assert first.metrics["distortions"] == again.metrics["distortions"] == 2 * (STEPS - 1)


def seeded_gated() -> nn.Module:
    torch.manual_seed(0)
    return kinds.gated(linear=False)


@pytest.mark.parametrize("layers", ["maps", "linear"])
def test_conventional_networks(layers, tmp_path):
    result = trained(kinds.conventional(), tmp_path, layers=layers)
    assert result.metrics["distorted_maps"] == (1 if layers == "maps" else 2)
    assert result.metrics["maps_with_next_weight"] == (0 if layers == "maps" else 2)


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_to_distort_is_an_error_that_says_what_there_is(stage, tmp_path):
    hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(StageError, match=f"{stage} found no feature map.*1 hidden linear"):
        trained(hidden, tmp_path, stage)
    convolutions = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(StageError, match=r"found no hidden linear layer.*layers: maps"):
        trained(convolutions, tmp_path, stage, layers="linear")


def test_maps_that_are_found_and_never_computed_in_training_are_an_error(tmp_path):
    class OnlyJudged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)
            self.other = nn.Linear(64, 3)

        def forward(self, x):
            if self.training:
                return self.other(x.flatten(1))
            return self.head(torch.relu(self.conv(x)).mean((2, 3)))

    with pytest.raises(StageError, match="disout distorted nothing: in 6 training steps"):
        trained(OnlyJudged(), tmp_path)


def test_a_block_larger_than_the_map_is_clipped_with_a_note(tmp_path):
    result = trained(kinds.depthwise(), tmp_path, block=9)
    assert result.notes == ("block 9 is larger than 4 of the maps: clipped to 4",)


def test_tokens_without_a_grid_are_said(tmp_path):
    class Shuffled(kinds.Transformer):
        def forward(self, images):
            order = torch.tensor([3, 1, 0, 2])
            return super().forward(images.reshape(-1, 1, 4, 2, 8)[:, :, order].reshape(-1, 1, 8, 8))

    result = trained(Shuffled(cut=True), tmp_path, block=1)
    assert len(result.notes) == 1
    assert "form no grid" in result.notes[0]
