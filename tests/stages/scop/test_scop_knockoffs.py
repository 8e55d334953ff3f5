import numpy as np
import pytest
import torch
from torch import Tensor

from nasplatform.errors import ConfigError, StageError
from nasplatform.plugins import make_options
from nasplatform.stages.scop.knockoffs import (
    KnockoffOptions,
    block_numbers,
    check_swaps,
    exchange,
    gaussian_knockoffs,
    make_knockoffs,
    shrunk_covariance,
    shuffled,
)

SHAPE = (1, 6, 4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated(n: int, shape=SHAPE, seed: int = 0) -> Tensor:
    """Normal images whose neighbouring pixels are alike."""
    noise = torch.randn((n, *shape), generator=rng(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1) * 2 + 0.5


def labels_of(images: Tensor) -> Tensor:
    return (images.mean((1, 2, 3)) > 0.5).long()


class TestShuffled:
    def test_is_a_permutation_without_fixed_points(self):
        images = torch.arange(7.0)[:, None, None, None].expand(7, 1, 2, 2)
        for seed in range(20):
            made = shuffled(images, rng(seed))[:, 0, 0, 0]
            assert sorted(made.tolist()) == list(range(7))
            assert not (made == torch.arange(7)).any()


class TestGaussian:
    def test_joint_moments_are_those_of_knockoffs(self):
        """Against the closed form: cov(X~) = Sigma, cov(X, X~) = Sigma - S, S block-diagonal."""
        images = correlated(20_000)
        sample = gaussian_knockoffs(images, 2)
        sigma = shrunk_covariance(images.flatten(1).double())
        # drawn from the very distribution that the method assumes
        root = torch.linalg.cholesky(sigma)
        draws = torch.randn((100_000, 24), generator=rng(1), dtype=torch.float64) @ root.T
        x = draws + images.flatten(1).mean(0)
        made = sample(x.float().view(-1, *SHAPE), rng(2)).flatten(1).double()
        joint = torch.cov(torch.cat([x, made], dim=1).T).numpy()
        d, scale = 24, float(sigma.diagonal().max())
        assert joint[d:, d:] == pytest.approx(sigma.numpy(), abs=0.02 * scale)
        s = sigma.numpy() - joint[:d, d:]
        owner = block_numbers(SHAPE, 2).numpy()
        outside = owner[:, None] != owner
        assert np.abs(s[outside]).max() < 0.02 * scale
        ratio = s[~outside] / sigma.numpy()[~outside]
        assert ratio == pytest.approx(np.full(len(ratio), ratio.mean()), abs=0.15)
        within = np.where(outside, 0, sigma.numpy())
        root = np.linalg.inv(np.linalg.cholesky(within))
        least = np.linalg.eigvalsh(root @ sigma.numpy() @ root.T)[0]
        assert ratio.mean() == pytest.approx(min(1, 2 * least), abs=0.03)
        assert made.mean(0).numpy() == pytest.approx(x.mean(0).numpy(), abs=0.02)

    def test_exchanging_a_block_leaves_the_covariance_alone(self):
        images = correlated(50_000)
        made = gaussian_knockoffs(images, 2)(images, rng(5))
        swaps = torch.zeros(1, 1, 6, 4)
        swaps[..., :2, 2:] = 1
        a, b = exchange(images, made, swaps)
        before = torch.cov(torch.cat([images, made], 1).flatten(1).T)
        after = torch.cov(torch.cat([a, b], 1).flatten(1).T)
        # the shrunken covariance is a tenth off, so is this; a shuffled batch is far off
        other = shuffled(images, rng(6))
        c, d = exchange(images, other, swaps)
        plain = torch.cov(torch.cat([images, other], 1).flatten(1).T)
        far = torch.cov(torch.cat([c, d], 1).flatten(1).T)
        assert float((after - before).abs().max()) < 0.35 * float((far - plain).abs().max())

    def test_block_of_the_whole_image_gives_independent_knockoffs(self):
        images = correlated(20_000)
        made = gaussian_knockoffs(images, 6)(images, rng(5))
        x, y = (
            images.flatten(1) - images.flatten(1).mean(0),
            made.flatten(1) - made.flatten(1).mean(0),
        )
        assert float((x.T @ y / len(x)).abs().max()) < 0.15 * float(x.var(0).max())

    def test_constant_pixels_are_no_trouble_and_large_images_are_refused(self):
        images = correlated(200)
        images[:, :, 0, 0] = 1.0
        assert torch.isfinite(gaussian_knockoffs(images, 2)(images, rng())).all()
        with pytest.raises(StageError, match="at most 4096 values, these have 12288"):
            gaussian_knockoffs(torch.zeros(2, 3, 64, 64), 4)


class TestBlocks:
    def test_numbers(self):
        found = block_numbers((2, 3, 5), 2).view(2, 3, 5)
        expected = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
        assert found.tolist() == [expected, expected]

    def test_exchange(self):
        a, b = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
        swaps = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        first, second = exchange(a, b, swaps)
        assert first[0, 1].tolist() == [[1, 0], [0, 0]]
        assert torch.equal(first + second, torch.ones_like(a))


class TestCheck:
    OPTIONS = KnockoffOptions(block=2, batch_size=64, diagnostic_steps=200)

    def check(self, images, sample):
        return check_swaps(images, sample, self.OPTIONS, 0)

    def test_copies_are_exchangeable_and_wholly_correlated(self):
        found = self.check(correlated(1000), lambda x, r: x.clone())
        assert found.accuracy == pytest.approx(0.5, abs=0.03)
        assert found.correlation == pytest.approx(1, abs=1e-3)

    def test_the_judge_is_asked_about_images_that_it_never_saw(self):
        images, shown = torch.arange(100.0).view(-1, 1, 1, 1).expand(100, *SHAPE), []

        def copies(batch, generator):
            shown.append(set(batch[:, 0, 0, 0].tolist()))
            return batch.clone()

        self.check(images, copies)
        *learnt, asked = shown
        assert len(asked) == 50
        assert not asked & set.union(*learnt)

    def test_shifted_images_are_told_apart(self):
        images = correlated(1000)
        found = self.check(images, lambda x, r: shuffled(x, r) + 3)
        assert found.accuracy > 0.95
        assert found.correlation < 0.1

    def test_whole_images_of_others_fail_where_blocks_are_exchanged(self):
        """A shuffled batch is exchangeable as a whole only; Gaussian knockoffs are by blocks."""
        levels = torch.randn((1000, 1, 1, 1), generator=rng()).expand(1000, *SHAPE)
        images = levels + 0.3 * torch.randn((1000, *SHAPE), generator=rng(1))
        plain = self.check(images, shuffled)
        gaussian = self.check(images, gaussian_knockoffs(images, 2))
        assert gaussian.accuracy < 0.6
        assert plain.accuracy > gaussian.accuracy + 0.15


class TestGenerator:
    OPTIONS = KnockoffOptions(
        kind="generator", block=2, steps=150, batch_size=64, width=8, diagnostic_steps=150
    )

    def test_training_makes_knockoffs_of_the_right_moments_that_are_hard_to_tell(self):
        images = correlated(1000)
        untrained = KnockoffOptions(**self.OPTIONS.model_dump() | {"steps": 1})
        checks = []
        for options in (untrained, self.OPTIONS):
            sample = make_knockoffs(images, options, 0)
            checks.append(check_swaps(images, sample, options, 1))
        made = sample(images, rng())
        assert checks[1].accuracy < checks[0].accuracy - 0.1
        assert checks[1].correlation < 0.9
        assert float((made.mean(0) - images.mean(0)).abs().mean()) < 0.15
        assert float(made.std() / images.std()) == pytest.approx(1, abs=0.2)
        assert not made.requires_grad

    def test_knockoffs_carry_no_more_of_the_label_than_the_image(self):
        """Nothing of the label goes in: the same images, whatever the labels, same knockoffs."""
        images = correlated(200)
        options = KnockoffOptions(**self.OPTIONS.model_dump() | {"steps": 3})
        first = make_knockoffs(images, options, 0)(images, rng(1))
        second = make_knockoffs(images, options, 0)(images, rng(1))
        assert torch.equal(first, second)
        assert not torch.equal(first, make_knockoffs(images, options, 0)(images, rng(2)))

    def test_trained_generator_is_used_again(self, tmp_path):
        images, steps = correlated(100), []
        options = KnockoffOptions(**self.OPTIONS.model_dump() | {"steps": 4})

        def make():
            return make_knockoffs(
                images,
                options,
                0,
                file=tmp_path / "g.safetensors",
                progress=lambda *step: steps.append(step),
            )

        first, second = make()(images, rng()), make()(images, rng())
        assert [step[:2] for step in steps] == [(k, 4) for k in range(1, 5)]
        assert torch.equal(first, second)

    def test_images_that_blocks_do_not_divide(self):
        images = correlated(50, (3, 7, 5))
        options = KnockoffOptions(
            kind="generator", block=4, steps=2, batch_size=8, width=4, diagnostic_steps=2
        )
        sample = make_knockoffs(images, options, 0)
        assert sample(images, rng()).shape == images.shape
        made = sample(images, rng())
        assert not torch.equal(made, images)
        assert torch.isfinite(made).all()


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="kind"):
        make_options(KnockoffOptions, {"kind": "gan"}, "knockoffs")
