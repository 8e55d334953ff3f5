import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from nasplatform.training import randaugment as module
from nasplatform.training.randaugment import RandAugmentOptions, randaugment

RNG = np.random.default_rng(0)
STRENGTH = 0.6


def images(channels: int = 3) -> np.ndarray:
    """Eight smooth images of another range each, (8, channels, 12, 10) uint8."""
    ramp = RNG.integers(0, 120, (8, channels, 12, 10)) + np.arange(10) * 8
    return (ramp + 5 * np.arange(8)[:, None, None, None]).astype(np.uint8)


def pillow(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, 2))


def array(image: Image.Image) -> np.ndarray:
    found = np.asarray(image)
    return found[None] if found.ndim == 2 else np.moveaxis(found, 2, 0)


REFERENCES = {
    "identity": lambda image, s: image,
    "autocontrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
    "solarize": lambda image, s: ImageOps.solarize(image, 256 * (1 - abs(s))),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    "color": lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    "contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    "brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    "sharpness": lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
}


def test_every_colour_operation_has_a_reference():
    assert [operation.__name__ for operation in module.COLOUR] == list(REFERENCES)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", module.COLOUR, ids=lambda operation: operation.__name__)
def test_colours_are_those_of_pillow(operation, channels):
    given = images(channels)
    signs = torch.tensor([1.0, -1.0] * 4)
    made = operation(torch.from_numpy(given).float(), STRENGTH * signs).clamp(0, 255)
    reference = REFERENCES[operation.__name__]
    for one, sign, found in zip(given, signs.tolist(), made.numpy(), strict=True):
        expected = array(reference(pillow(one), STRENGTH * sign)).astype(float)
        # Pillow rounds the grey and the result to whole numbers
        exact = operation.__name__ in ("identity", "equalize", "solarize", "posterize")
        assert np.abs(found - expected).max() <= (0 if exact else 2)


def slow_warp(image, inverse):
    """Nearest neighbour with explicit loops; ``inverse`` maps (x, y) in pixels to (x, y)."""
    _, height, width = image.shape
    made = np.zeros_like(image)
    near_edge = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y = inverse(column - (width - 1) / 2, row - (height - 1) / 2)
            x, y = x + (width - 1) / 2, y + (height - 1) / 2
            near_edge[row, column] = min(abs(v % 1 - 0.5) for v in (x, y)) < 1e-3
            i, j = math.floor(y + 0.5), math.floor(x + 0.5)
            if 0 <= i < height and 0 <= j < width:
                made[:, row, column] = image[:, i, j]
    return made, near_edge


def inverses(name, s, size):
    angle = s * math.radians(30)
    return {
        "rotate": lambda x, y: (
            math.cos(angle) * x - math.sin(angle) * y,
            math.sin(angle) * x + math.cos(angle) * y,
        ),
        "shear_x": lambda x, y: (x + 0.3 * s * y, y),
        "shear_y": lambda x, y: (x, y + 0.3 * s * x),
        "translate_x": lambda x, y: (x + 0.45 * s * size, y),
        "translate_y": lambda x, y: (x, y + 0.45 * s * size),
    }[name]


@pytest.mark.parametrize("operation", module.GEOMETRY, ids=lambda operation: operation.__name__)
def test_geometry_is_that_of_a_slow_loop(operation):
    given = RNG.random((4, 2, 11, 11)).astype(np.float32) + 1
    strengths = torch.tensor([0.61, -0.61, 0.0, 1.0])
    made = module.warp(torch.from_numpy(given), operation(strengths)).numpy()
    assert np.array_equal(made[2], given[2])
    for one, strength, found in zip(given, strengths.tolist(), made, strict=True):
        expected, near_edge = slow_warp(one, inverses(operation.__name__, strength, 11))
        assert np.array_equal(found[:, ~near_edge], expected[:, ~near_edge])
        assert near_edge.mean() < 0.3


def levels(mean=100.0, deviation=50.0, channels=3):
    black, white = ((value - mean) / deviation for value in (0, 255))
    return torch.full((channels,), black), torch.full((channels,), white)


def test_batches_draw_every_operation_and_stay_in_range():
    given = torch.from_numpy(images()).float().repeat(50, 1, 1, 1)
    standardised = (given - 100) / 50
    options = RandAugmentOptions(layers=1, magnitude=6)
    made = randaugment(standardised, levels(), options, torch.Generator().manual_seed(0))
    same = torch.isclose(made, standardised, atol=1e-4).flatten(1).all(1)
    assert 0.02 < same.double().mean() < 0.3  # identity and what changes nothing
    pixels = made * 50 + 100
    assert -1e-3 <= float(pixels.min()) <= float(pixels.max()) <= 255.001
    again = randaugment(standardised, levels(), options, torch.Generator().manual_seed(0))
    assert torch.equal(made, again)
    other = randaugment(standardised, levels(), options, torch.Generator().manual_seed(1))
    assert not torch.equal(made, other)


def test_one_image_goes_through_the_operations_that_were_drawn():
    """The batch is what one gets image by image, with the same draws."""
    given = (torch.from_numpy(images()).float() - 100) / 50
    options = RandAugmentOptions(layers=2, magnitude=4)
    made = randaugment(given, levels(), options, torch.Generator().manual_seed(5))
    rng = torch.Generator().manual_seed(5)
    count = len(module.COLOUR) + len(module.GEOMETRY)
    pixels = given * 50 + 100
    for _ in range(2):
        kinds = torch.randint(count, (8,), generator=rng).tolist()
        signs = (torch.randint(2, (8,), generator=rng) * 2 - 1).tolist()
        for row, (kind, sign) in enumerate(zip(kinds, signs, strict=True)):
            one, strength = pixels[row : row + 1], torch.tensor([sign * 0.4])
            if kind < len(module.COLOUR):
                pixels[row] = module.COLOUR[kind](one, strength)[0].clamp(0, 255)
            else:
                matrix = module.GEOMETRY[kind - len(module.COLOUR)](strength)
                pixels[row] = module.warp(one - 100, matrix)[0] + 100
    torch.testing.assert_close(made, (pixels - 100) / 50, atol=1e-4, rtol=1e-4)
