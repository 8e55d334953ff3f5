import math

import pytest
import torch
from scipy import stats
from torch.nn import functional

from nasplatform.training.augmentation import beta, cutmix, erase, flip_crop, mixup, soft_labels


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_flip_crop(image, down, right, mirrored):
    """One image (c, h, w) with explicit loops: mirrored or not, then moved."""
    channels, height, width = image.shape
    made = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                source_y = y + down
                source_x = (width - 1 - x if mirrored else x) + right
                if 0 <= source_y < height and 0 <= source_x < width:
                    made[c, y, x] = image[c, source_y, source_x]
    return made


def test_flip_crop_is_one_of_the_allowed_moves_and_reaches_all_of_them():
    image = torch.rand(2, 8, 16, generator=rng()) + 1
    moves = {
        (down, right, mirrored): slow_flip_crop(image, down, right, mirrored)
        for down in (-1, 0, 1)
        for right in (-2, -1, 0, 1, 2)
        for mirrored in (False, True)
    }
    made = flip_crop(image.repeat(600, 1, 1, 1), rng(1))
    counts = dict.fromkeys(moves, 0)
    for one in made:
        found = [move for move, expected in moves.items() if torch.equal(one, expected)]
        assert len(found) == 1
        counts[found[0]] += 1
    assert min(counts.values()) > 0
    mirrored = sum(count for (_, _, flipped), count in counts.items() if flipped)
    assert 240 < mirrored < 360  # 300 expected, standard deviation 12


def test_flip_crop_follows_the_generator_and_keeps_small_images_whole():
    images = torch.rand(5, 1, 8, 8, generator=rng())
    assert torch.equal(flip_crop(images, rng(3)), flip_crop(images, rng(3)))
    small = torch.rand(20, 1, 7, 7, generator=rng())  # 7 // 8 = 0: no room to move
    made = flip_crop(small, rng(2))
    for before, after in zip(small, made, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


def rectangle(changed):
    """Rows and columns of a mask (h, w) as slices; asserts that it is a full rectangle."""
    rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert changed[top:bottom, left:right].all()
    assert int(changed.sum()) == int((bottom - top) * (right - left))
    return int(bottom - top), int(right - left)


def test_erase_fills_a_rectangle_of_allowed_area_with_normal_noise():
    images = torch.full((2000, 2, 20, 20), 7.0)
    made = erase(images, 0.5, rng())
    changed = (made != images).all(1)
    erased = changed.flatten(1).any(1)
    assert 0.46 < erased.double().mean() < 0.54  # 0.5 expected, standard deviation 0.011
    sides = [rectangle(one) for one in changed[erased]]
    areas = [tall * wide for tall, wide in sides]
    assert min(areas) >= 0.02 * 400 * 0.6  # rounded to whole pixels
    assert max(areas) <= 0.4 * 400 * 1.2
    assert max(tall for tall, _ in sides) > 15 > 5 > min(tall for tall, _ in sides)
    noise = made[(made != images)]
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(erase(images, 0.0, rng()), images)


def test_mixup_mixes_images_and_labels_by_one_share():
    images, labels = torch.eye(6).view(6, 1, 2, 3), torch.eye(6)
    made, mixed = mixup(images, labels, 0.4, rng(3))
    assert torch.equal(made.flatten(1), mixed)  # images are their own labels here
    share = float(mixed.diagonal().min())
    for row, one in enumerate(mixed):
        others = [float(value) for k, value in enumerate(one) if k != row and value]
        assert others in ([], [pytest.approx(1 - share)])
    torch.testing.assert_close(mixed.sum(1), torch.ones(6))


def test_cutmix_pastes_a_rectangle_and_counts_its_area():
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 10, 12)
    labels = torch.eye(8)
    shares = set()
    for seed in range(40):
        made, mixed = cutmix(images, labels, 1.0, rng(seed))
        foreign = (made != images)[:, 0]
        if not foreign.any():
            continue
        for row in range(8):
            pasted = foreign[row]
            if pasted.any():
                rectangle(pasted)
                partner = int(made[row, 0][pasted][0])
                share = float(pasted.double().mean())
                expected = torch.zeros(8)
                expected[row] += 1 - share
                expected[partner] += share
                torch.testing.assert_close(mixed[row], expected)
                shares.add(round(share, 3))
    assert len(shares) > 10


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_beta_has_the_distribution_of_its_name(alpha):
    generator = rng(1)
    drawn = [beta(alpha, generator) for _ in range(1000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_soft_labels_give_the_label_smoothed_cross_entropy():
    logits, labels = torch.randn(9, 5, generator=rng()), torch.arange(9) % 5
    for smoothing in (0.0, 0.1, 0.7):
        found = functional.cross_entropy(logits, soft_labels(labels, 5, smoothing))
        expected = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        torch.testing.assert_close(found, expected)
    log = logits.log_softmax(1)
    own = -sum(log[i, labels[i]] for i in range(9)) / 9
    assert float(functional.cross_entropy(logits, soft_labels(labels, 5, 0.2))) == pytest.approx(
        float(0.8 * own - 0.2 * log.mean()), rel=1e-5
    )
    assert math.isclose(float(soft_labels(labels, 5, 0.3).sum()), 9, rel_tol=1e-6)
