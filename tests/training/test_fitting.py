"""Images of other sizes, colours and units, and darkened ones."""

import hashlib

import numpy as np
import pytest

from nasplatform.errors import DataError
from nasplatform.training.darkening import darkened
from nasplatform.training.fitting import LUMA, fitted
from nasplatform.training.image_store import Images
from nasplatform.training.preprocessing import channel_statistics, standardised_task

RNG = np.random.default_rng(0)
LABELS = np.arange(8) % 2


def task_of(shape, dtype=np.uint8):
    raw = RNG.integers(0, 256, (8, *shape)).astype(dtype)
    return standardised_task("mine", [(raw, LABELS)] * 3, "mine")


def images_of(shape, dtype=np.uint8):
    raw = RNG.integers(0, 256, (5, *shape)).astype(dtype)
    return Images(raw, channel_statistics(raw))


def test_bytes_are_standardised_by_the_task():
    task, images = task_of((3, 8, 8)), images_of((3, 8, 8))
    made, note = fitted(images, task, "other")
    mean, std = (np.array(v)[:, None, None] for v in (task.mean, task.std))
    np.testing.assert_allclose(made[:].numpy(), (images.raw - mean) / std, rtol=1e-5, atol=1e-6)
    assert note == (
        "unlabelled images of other: 5 of 3 x 8 x 8, standardised by the task statistics"
    )


def test_sizes_and_colours_are_brought_to_the_task():
    task, images = task_of((1, 4, 4)), images_of((3, 8, 8))
    made, note = fitted(images, task, "other")
    assert made.shape == (5, 1, 4, 4)
    assert "5 of 3 x 8 x 8 brought to 1 x 4 x 4" in note
    grey = (images.raw * np.array(LUMA)[:, None, None]).sum(1)
    stored = made.stored(slice(0, 5)).numpy()
    assert stored.dtype == np.uint8
    # a triangle over the two pixels below each and half of their neighbours, as Pillow's
    weights = np.zeros((4, 8))
    for row in range(4):
        for column in range(8):
            weights[row, column] = max(0.0, 1 - abs(column + 0.5 - 2 * (row + 0.5)) / 2)
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum("rh,nhw,cw->nrc", weights, grey, weights)
    assert np.abs(stored[:, 0] - expected).max() <= 0.51


def test_grey_is_repeated_and_other_channels_refused():
    task = task_of((3, 4, 4))
    made, _ = fitted(images_of((1, 4, 4)), task, "grey")
    stored = made.stored(slice(0, 5))
    assert (stored == stored[:, :1]).all()
    with pytest.raises(DataError, match="odd has images of 2 channels, mine of 3"):
        fitted(images_of((2, 4, 4)), task, "odd")


def test_other_units_keep_their_own_standardisation():
    task, images = task_of((1, 4, 4)), images_of((3, 4, 4), np.float64)
    made, note = fitted(images, task, "floats")
    expected = (images[:].double().numpy() * np.array(LUMA)[:, None, None]).sum(1, keepdims=True)
    np.testing.assert_allclose(made[:].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert note.endswith("standardised by their own statistics")


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_darkened_pixels_are_multiplied(dtype):
    task = task_of((3, 4, 4), dtype)
    images = Images(task.train.inputs.raw, task.train.inputs.scale)
    made = darkened(images, 0.75, task)[:].numpy()
    mean, std = (np.array(v)[:, None, None] for v in (task.mean, task.std))
    expected = (images.raw * 0.25 - mean) / std
    np.testing.assert_allclose(made, expected, atol=1e-5 + 0.5 / std.min() * (dtype == np.uint8))
    stored = Images(images[:].numpy())  # standardised already, as digits are
    np.testing.assert_allclose(darkened(stored, 0.75, task)[:].numpy(), expected, atol=1e-5)


def test_changed_images_are_told_apart_and_chosen_without_reading():
    task, images = task_of((1, 4, 4)), images_of((1, 8, 8))

    def digest(some):
        found = hashlib.sha256()
        some.add_to(found)
        return found.hexdigest()

    made, _ = fitted(images, task, "other")
    again, _ = fitted(images, task, "another name")
    assert digest(made) == digest(again)
    assert (
        len({digest(made), digest(darkened(made, 0.5, task)), digest(made.chosen(np.array([1])))})
        == 3
    )
    rows = np.array([3, 0])
    np.testing.assert_array_equal(made.chosen(rows)[:], made[rows])
