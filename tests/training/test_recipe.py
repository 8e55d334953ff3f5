import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nasplatform.training.recipe import Recipe, flip_crop, learning_rate


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_learning_rate_values():
    recipe = Recipe(learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(step, 10, recipe) for step in range(10)]
    cosine = [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(1, 8)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, *cosine])


def test_learning_rate_without_warm_up_is_half_a_cosine():
    recipe = Recipe(learning_rate=0.4, warmup=0.0)
    rates = [learning_rate(step, 4, recipe) for step in range(4)]
    assert rates == pytest.approx([0.4, 0.4 * (0.5 + 0.25 * math.sqrt(2)), 0.2, 0.0585786])


@given(
    st.integers(1, 300),
    st.floats(0, 0.99),
    st.floats(1e-4, 10),
)
def test_learning_rate_rises_then_falls_and_stays_positive(steps, warmup, peak):
    recipe = Recipe(learning_rate=peak, warmup=warmup)
    rates = [learning_rate(step, steps, recipe) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", 0), ("batch_size", 1), ("learning_rate", 0), ("warmup", 1), ("epoch", 3)],
)
def test_impossible_recipes_are_refused(key, value):
    with pytest.raises(ValidationError):
        Recipe(**{key: value})


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
