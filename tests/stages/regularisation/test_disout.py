import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from nasplatform.errors import StageError, TrainingError
from nasplatform.models.network import Network
from nasplatform.spaces import get_space
from nasplatform.stages.base import StageContext
from nasplatform.stages.dataflow import Reader, feature_points
from nasplatform.stages.regularisation.base import placed
from nasplatform.stages.regularisation.blocks import keep_mask, seed_rate
from nasplatform.stages.regularisation.disout import (
    Disout,
    DisoutOptions,
    Distorter,
    distort,
    distortion,
    first_readers,
    largest_weights,
    next_weight,
)
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.recipe import Recipe


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestSeedRate:
    def test_published_formula(self):
        assert seed_rate(0.09, 6, 8, 8) == pytest.approx(0.09 * 64 / 36 / 9)
        assert seed_rate(0.3, 1, 5, 7) == pytest.approx(0.3)

    @pytest.mark.parametrize(("block", "height", "width"), [(1, 9, 9), (2, 12, 12), (3, 16, 8)])
    def test_share_of_the_map_that_is_distorted(self, block, height, width):
        prob = 0.05
        gamma = seed_rate(prob, block, height, width)
        noise = torch.rand((400, 4, height - block + 1, width - block + 1), generator=rng())
        share = 1 - float(keep_mask(noise, gamma, block).mean())
        # overlaps of blocks make it a little less than prob
        assert 0.85 * prob < share < 1.03 * prob

    def test_block_of_the_whole_map(self):
        gamma = seed_rate(0.4, 6, 6, 6)
        assert gamma == pytest.approx(0.4)
        keep = keep_mask(torch.rand((1000, 1, 1, 1), generator=rng()), gamma, 6)
        assert set(keep.sum(dim=(2, 3)).unique().tolist()) == {0.0, 36.0}
        assert float(1 - keep.mean()) == pytest.approx(0.4, abs=0.06)


def slow_keep_mask(noise: Tensor, gamma: float, block: int) -> Tensor:
    batch, channels, rows, columns = noise.shape
    keep = torch.ones(batch, channels, rows + block - 1, columns + block - 1)
    for b, c, y, x in torch.nonzero(noise < gamma).tolist():
        keep[b, c, y : y + block, x : x + block] = 0
    return keep


@pytest.mark.parametrize("block", [1, 2, 3, 6])
def test_keep_mask_against_loops(block):
    noise = torch.rand((3, 2, 9 - block, 8 - block + 1), generator=rng(block))
    assert torch.equal(keep_mask(noise, 0.2, block), slow_keep_mask(noise, 0.2, block))


@pytest.mark.parametrize("block", [3, 4])
def test_blocks_are_those_of_the_release(block):
    """The release draws noise for the whole map, marks centres that fit, and dilates them.

    With an even side its blocks lie one pixel further down and right, partly outside the map.
    """
    height, width, gamma = 9, 8, 0.1
    noise = torch.rand((5, 2, height, width), generator=rng())
    centres = torch.zeros_like(noise)
    half = block // 2
    rows, columns = (slice(half, size - (block - 1) // 2) for size in (height, width))
    centres[:, :, rows, columns] = (noise[:, :, rows, columns] < gamma).float()
    dropped = nn.functional.max_pool2d(centres, block, stride=1, padding=half)
    ours = 1 - keep_mask(noise[:, :, rows, columns], gamma, block)
    if block % 2 == 0:
        dropped = dropped[:, :, :-1, :-1]
        assert torch.equal(ours[:, :, :-1, :-1], dropped[:, :, 1:, 1:])
    else:
        assert torch.equal(ours, dropped)


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((6, 4, 3, 3), 1), ((6, 4, 1, 1), 1), ((6, 1, 3, 3), 3), ((8, 2, 5, 3), 4)],
)
def test_next_weight_against_loops(shape, groups):
    weight = torch.randn(shape, generator=rng(1))
    out, per_group, height, width = shape
    channels = per_group * groups
    signs = torch.randint(0, 2, (channels, height, width), generator=rng(2)) * 2.0 - 1
    expected = []
    for channel in range(channels):
        group, inside = divmod(channel, per_group)
        outputs = range(group * out // groups, (group + 1) * out // groups)
        total = 0.0
        for y in range(height):
            for x in range(width):
                largest = max(float(weight[o, inside, y, x]) for o in outputs)
                total += largest * float(signs[channel, y, x])
        mean = total / (height * width)
        expected.append(0.1 * mean if height * width == 1 else mean)
    conv = nn.Conv2d(channels, out, (height, width), groups=groups)
    conv.weight.data = weight
    found = next_weight(largest_weights(conv), signs)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_epsilon_is_normal_with_the_published_deviation_and_carries_no_gradient():
    features = 3 * torch.randn((8, 3, 16, 16), generator=rng(), requires_grad=True)
    weight = torch.tensor([0.5, -0.2, 0.0])
    noise = torch.randn(features.shape, generator=rng(1))
    epsilon = distortion(features, weight, 5.0, noise)
    assert not epsilon.requires_grad
    deviation = float(features.detach().std())
    for channel, value in enumerate(weight.tolist()):
        drawn = epsilon[:, channel].flatten().double().numpy()
        if value == 0:
            assert not drawn.any()
        else:
            scale = 5.0 * abs(value) * deviation
            assert stats.kstest(drawn, "norm", args=(0, scale)).pvalue > 0.01


def test_distort_replaces_and_rescales_by_the_share_kept():
    features = torch.arange(1.0, 9).reshape(1, 1, 2, 4)
    keep = torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 0]]).reshape(1, 1, 2, 4)
    epsilon = torch.full_like(features, -2.0)
    found = distort(features, keep, epsilon)
    expected = torch.tensor([[1.0, 2, -2, 4], [5, 6, 7, -2]]) / 0.75
    torch.testing.assert_close(found[0, 0], expected)
    nothing_kept = distort(features, torch.zeros_like(keep), epsilon)
    assert torch.isfinite(nothing_kept).all()


class TestDistorter:
    def made(self, block=2, readers=(), alpha=1.0) -> Distorter:
        return Distorter(readers, alpha, block)

    def test_probability_zero_changes_nothing(self):
        features = torch.randn((2, 3, 4, 4), generator=rng())
        assert torch.equal(self.made()(features, 0.0, rng()), features)

    def test_gradient_flows_through_what_is_kept_only(self):
        features = torch.randn((4, 3, 6, 6), generator=rng(), requires_grad=True)
        distorted = self.made()(features, 0.3, rng())
        distorted.sum().backward()
        assert features.grad is not None
        slopes = features.grad.unique()
        assert len(slopes) == 2
        assert float(slopes[0]) == 0
        assert float(slopes[1]) == pytest.approx(1 / float((features.grad > 0).float().mean()))

    def test_block_of_one_is_the_element_wise_version(self):
        """Each element on its own with probability p, against a direct computation."""
        features = torch.randn((8, 3, 6, 6), generator=rng(9))
        distorted = self.made(block=1, alpha=3.0)(features, 0.25, rng(4))
        draws = rng(4)
        keep = (torch.rand(features.shape, generator=draws) >= 0.25).float()
        noise = torch.randn(features.shape, generator=draws)
        epsilon = 3 * 0.01 * features.std() * noise
        torch.testing.assert_close(
            distorted, torch.where(keep > 0, features, epsilon) / keep.mean()
        )

    def test_blocks_are_clipped_to_small_maps(self):
        features = torch.rand((64, 2, 3, 2), generator=rng()) + 1
        distorted = self.made(block=6)(features, 0.5, rng())
        changed = (distorted < 0.5).float()  # 0.01 times a normal number, against at least 1
        assert 0.3 < float(changed.mean()) < 0.6
        # blocks of 2 x 2 in a map of 3 x 2 always cover the middle row
        hit = changed.amax(dim=(2, 3))
        assert torch.equal(changed[:, :, 1].amin(dim=2), hit)

    def test_each_channel_takes_the_weight_of_the_first_layer_that_reads_it(self):
        first, second = nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(4, 2, 1, bias=False)
        nn.init.constant_(first.weight, 2.0)
        nn.init.constant_(second.weight, 8.0)
        readers = first_readers((Reader(first, 0, 1, 2), Reader(second, 0, 0, 4)), 5)
        assert [(r.start, r.first, r.length) for r in readers] == [(0, 1, 2), (0, 0, 1), (3, 3, 1)]
        weight = self.made(readers=readers).weight(torch.zeros(1, 5, 2, 2), rng())
        assert weight.abs().tolist() == pytest.approx([0.8, 0.2, 0.2, 0.8, 0.01])

    def test_a_reader_of_a_part_gives_the_weights_of_that_part(self):
        """Channels 1 to 3 of the map are inputs 2 to 4 of the layer, as behind a concatenation."""
        layer = nn.Conv2d(6, 2, 1, bias=False)
        layer.weight.data = torch.arange(1.0, 7).expand(2, 6)[:, :, None, None].clone()
        weight = self.made(readers=(Reader(layer, 2, 1, 3),)).weight(torch.zeros(1, 5, 2, 2), rng())
        assert weight.abs().tolist() == pytest.approx([0.01, 0.3, 0.4, 0.5, 0.01])

    def test_signs_are_drawn_anew_for_every_tap(self):
        layer = nn.Conv2d(400, 1, 3, bias=False)
        nn.init.ones_(layer.weight)
        drawn = [
            self.made(readers=(Reader(layer, 0, 0, 400),)).weight(torch.zeros(1, 400, 1, 1), rng(s))
            for s in (0, 1)
        ]
        sums = (9 * drawn[0]).round().int().tolist()
        assert set(sums) <= {-9, -7, -5, -3, -1, 1, 3, 5, 7, 9}
        assert len(set(sums)) > 6  # of nine signs each, not one for all
        assert abs(np.mean(sums)) < 0.6  # as often up as down
        assert not torch.equal(*drawn)

    def test_maps_images_and_channels_are_distorted_independently(self):
        """What is hit in one says nothing of another, nor does the noise in it."""
        features = torch.ones((40, 40, 4, 4))
        features[0, 0, 0, 0] = 1.5  # some deviation
        distorted = self.made(block=1, alpha=100.0)(features, 0.5, rng())
        hit = (distorted.double() * distorted.gt(0.5).double().mean() < 0.9).flatten(2).numpy()
        for axis in (0, 1):
            one, other = np.take(hit, 0, axis).ravel(), np.take(hit, 1, axis).ravel()
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.15
            values = np.where(hit, distorted.flatten(2).numpy(), np.nan)
            one, other = np.take(values, 0, axis).ravel(), np.take(values, 1, axis).ravel()
            both = np.isfinite(one) & np.isfinite(other)
            assert abs(np.corrcoef(one[both], other[both])[0, 1]) < 0.25

    def test_few_elements_are_hit_in_bfloat16_too(self):
        """Of its 256 numbers below 1 one in 256 is 0, which is below any gamma."""
        features = torch.ones((64, 8, 16, 16), dtype=torch.bfloat16)
        distorted = self.made(block=1)(features, 0.001, rng())
        assert distorted.dtype == torch.bfloat16
        assert float((distorted.float() < 0.5).float().mean()) == pytest.approx(0.001, rel=0.2)


def test_the_stage_distorts_with_its_own_strength_and_readers():
    """Alpha and the readers of a map get from the options into the training."""
    points = feature_points(tiny_network().module, (1, 8, 8))
    point = next(point for point in points if point.readers)
    noise = Disout(DisoutOptions(alpha=7.0, block=3)).noise(point)
    assert isinstance(noise, Distorter)
    assert (noise.alpha, noise.block) == (7.0, 3)
    assert list(noise.readers) == first_readers(point.readers, point.shape[0])
    assert noise.readers


class TestPlacement:
    def options(self, **values) -> DisoutOptions:
        return DisoutOptions(dist_prob=0.08, **values)

    def test_last_stage_of_a_searched_cell(self):
        points = feature_points(tiny_network().module, (1, 8, 8))
        found = placed(points, self.options(), 0.08)
        names = [point.name for point, _ in found]
        assert names == [
            "layers.5.input_op.1.conv_bn_relu.2",
            "layers.5.vertex_op.1.conv3x3.conv_bn_relu.2",
            "layers.5.input_op.3.conv_bn_relu.2",
            "layers.5.vertex_op.3.conv1x1.conv_bn_relu.2",
            "layers.5.input_op.4.conv_bn_relu.2",
        ]
        assert {prob for _, prob in found} == {0.08}

    def test_last_two_stages_give_the_larger_maps_a_quarter(self):
        points = feature_points(tiny_network().module, (1, 8, 8))
        found = placed(points, self.options(placement="last-two-stages"), 0.08)
        assert {(point.shape[1], prob) for point, prob in found} == {(2, 0.08), (4, 0.02)}
        assert len(found) == 10


def small(epochs: int = 2, **values) -> DisoutOptions:
    return DisoutOptions(recipe=Recipe(epochs=epochs, batch_size=16), **values)


class TestStage:
    @pytest.mark.parametrize("block", [1, 2])
    def test_distorts_in_training_and_leaves_no_hook(self, tmp_path, block, monkeypatch):
        probs, shares = [], []

        def spied(noise, gamma, size):
            keep = keep_mask(noise, gamma, size)
            probs.append(gamma)
            shares.append(size)
            return keep

        monkeypatch.setattr("nasplatform.stages.regularisation.blocks.keep_mask", spied)
        stage = Disout(small(block=block, dist_prob=0.2))
        result = stage.apply(tiny_network(), tiny_task(), StageContext(tmp_path))
        assert all(not module._forward_hooks for module in result.network.module.modules())
        assert result.metrics["distorted_maps"] == 5
        assert result.metrics["maps_with_next_weight"] == 3  # both projections and vertex 1
        assert set(shares) == {block}
        # steps times maps; the schedule begins at 0, where nothing is drawn
        assert result.metrics["distortions"] == len(probs) == 5 * 5
        expected = [
            seed_rate(0.2 * step / 5, block, 2, 2) for step in range(1, 6) for _ in range(5)
        ]
        assert probs == pytest.approx(expected)

    def test_hooks_are_gone_after_a_failure_too(self, tmp_path, monkeypatch):
        seen = []
        fresh = Network.fresh

        def spied(self, seed):
            seen.append(fresh(self, seed))
            return seen[-1]

        monkeypatch.setattr(Network, "fresh", spied)
        recipe = Recipe(epochs=2, batch_size=16, learning_rate=1e30, warmup=0.0)
        options = DisoutOptions(recipe=recipe)
        with pytest.raises(TrainingError):
            Disout(options).apply(tiny_network(), tiny_task(), StageContext(tmp_path))
        assert all(not module._forward_hooks for module in seen[0].module.modules())

    @pytest.mark.parametrize("averaging", [{"name": "ema", "decay": 0.9}, {"name": "mean"}])
    def test_averaged_weights_are_handed_on_without_hooks(self, tmp_path, averaging):
        recipe = {"epochs": 2, "batch_size": 16, "averaging": averaging}
        options = DisoutOptions(recipe=recipe)
        result = Disout(options).apply(tiny_network(), tiny_task(), StageContext(tmp_path))
        module = result.network.module
        assert all(not child._forward_hooks for child in module.modules())
        assert result.metrics["valid_accuracy"] == evaluate(module, tiny_task(), "valid")

    def test_given_weights_can_be_trained_on(self, tmp_path):
        recipe = Recipe(epochs=1, learning_rate=1e-9)
        options = DisoutOptions(recipe=recipe, start="given")
        network = tiny_network(7)
        result = Disout(options).apply(network, tiny_task(), StageContext(tmp_path, seed=1))
        before, after = (n.module.classifier.weight for n in (network, result.network))
        assert torch.allclose(before, after, atol=1e-6)

    def test_network_without_convolutions_is_refused(self, tmp_path):
        network = tiny_network()
        plain = Network(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), network.structure)
        with pytest.raises(StageError, match="found no feature map"):
            Disout(small(start="given")).apply(plain, tiny_task(), StageContext(tmp_path))

    def test_distortion_acts_as_regularisation(self, tmp_path):
        """Under strong distortion the training loss cannot go as low."""
        losses = []
        for prob in (1e-9, 0.6):
            stage = Disout(small(epochs=12, block=2, dist_prob=prob))
            folder = tmp_path / str(prob)
            folder.mkdir()
            result = stage.apply(tiny_network(), tiny_task(), StageContext(folder))
            losses.append(result.metrics["train_loss"])
        assert losses[1] > losses[0] + 0.05
        assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("seed", range(3))
def test_every_searched_network_can_be_distorted(tmp_path, seed):
    space = get_space(
        "nasbench101", stem_channels=4, modules_per_stack=1, input_shape=(1, 8, 8), classes=3
    )
    cell = space.sample(1, np.random.Generator(np.random.PCG64(seed)))[0]
    result = Disout(small(epochs=1)).apply(
        Network.of(space, cell), tiny_task(), StageContext(tmp_path)
    )
    assert result.metrics["distorted_maps"] > 0
