import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from nasplatform.errors import DataError
from nasplatform.training.image_store import Images
from nasplatform.training.preprocessing import (
    block_sums,
    channel_statistics,
    check_labels,
    generator,
    standardised_task,
)


@given(arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, max_side=6)))
def test_statistics_of_whole_numbers_are_those_of_numpy(images):
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(images.astype(float).mean(axis=(0, 2, 3)))
    assert std == pytest.approx(images.astype(float).std(axis=(0, 2, 3)), abs=1e-6)


def test_statistics_do_not_depend_on_chunks_or_on_the_type(monkeypatch):
    images = generator(0).integers(0, 256, size=(100, 3, 5, 4)).astype(np.uint8)
    whole = channel_statistics(images)
    floats = channel_statistics(images.astype(np.float32))
    monkeypatch.setattr("nasplatform.training.preprocessing.CHUNK", 7)
    parts = channel_statistics(images)
    for a, b, c in zip(whole, parts, floats, strict=True):
        assert np.array_equal(a, b)
        assert a == pytest.approx(c)


def test_standardised_images_have_mean_0_and_deviation_1():
    images = generator(1).normal(5, 3, size=(50, 2, 4, 4))
    made = Images(images, channel_statistics(images))[:].numpy()
    assert made.dtype == np.float32
    assert made.mean(axis=(0, 2, 3)) == pytest.approx([0, 0], abs=1e-6)
    assert made.std(axis=(0, 2, 3)) == pytest.approx([1, 1], abs=1e-5)


def test_block_sums_against_loops():
    images = generator(2).integers(0, 256, size=(3, 8, 4)).astype(np.uint8)
    made = block_sums(images, 4)
    assert made.shape == (3, 2, 1)
    for i in range(3):
        for y in range(2):
            assert made[i, y, 0] == int(images[i, 4 * y : 4 * y + 4].astype(int).sum())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (([0, 0], [0], [0]), r"has 1 class\(es\), at least 2 needed"),
        (
            ([0, 2], [0], [0]),
            "must be 0..K-1 with none missing, found 2 different ones from 0 to 2",
        ),
        (([1, 2], [1], [1]), "must be 0..K-1"),
        (([-1, 0], [0], [0]), "must be 0..K-1"),
        (([0, 1], [2], [0]), "label 2 of the valid split is not among the training labels 0..1"),
        (([0, 1], [1], [-1]), "label -1 of the test split"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, words):
    with pytest.raises(DataError, match=words):
        check_labels([np.array(part, np.int64) for part in labels], "x.npz")


def test_constant_channel_is_refused():
    images = generator(3).integers(0, 9, size=(6, 2, 4, 4))
    images[:, 1] = 4
    labels = np.arange(6) % 2
    with pytest.raises(DataError, match="there: channel 1 is the same in every training pixel"):
        standardised_task("x", [(images, labels)] * 3, "there")


def test_scale_turns_raw_images_into_inputs():
    images = generator(4).integers(0, 99, size=(6, 2, 4, 4))
    labels = np.arange(6) % 2
    task = standardised_task("x", [(images, labels)] * 3, "x", unlabelled=images[:2], unit=4)
    mean, std = (np.array(values)[:, None, None] for values in (task.mean, task.std))
    assert task.test.inputs[:].numpy() == pytest.approx((images / 4 - mean) / std, abs=1e-5)
    assert task.unlabelled is not None
    assert task.unlabelled[:].numpy() == pytest.approx(task.train.inputs[:2].numpy())
    assert (task.classes, task.input_shape, len(task.train)) == (2, (2, 4, 4), 6)


def test_digest_tells_data_apart():
    images = generator(5).integers(0, 99, size=(6, 1, 4, 4))
    labels = np.arange(6) % 2

    def digest(x=images, y=labels, more=None):
        return standardised_task(
            "x", [(x, y), (images, labels), (images, labels)], "x", more
        ).digest

    other = images.copy()
    other[0, 0, 0, 0] += 1
    assert digest() == digest(images.copy())
    assert len({digest(), digest(other), digest(y=1 - labels), digest(more=images)}) == 4


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.int32, [-(2**31), 2**31 - 1, 5, 7]),
        (np.uint64, [0, 2**64 - 1, 2**63, 17]),
        (np.uint16, [0, 65535, 65535, 65535]),
        (np.int8, [-128, 127, -128, 3]),
        (np.float64, [1e200, -1e200, 3e200, 0.0]),
        (np.float64, [1e-200, -1e-200, 3e-200, 0.0]),
        (np.float32, [3e38, -3e38, 1e38, 0.0]),
        (np.float16, [60000, -60000, 1, 0]),
    ],
)
def test_statistics_of_extreme_values_are_exact(dtype, values):
    images = np.array(values, dtype).repeat(300).reshape(-1, 1, 4, 1)
    mean, std = channel_statistics(images)
    exact = [Fraction(value.item()) for value in images.ravel()]
    middle = sum(exact) / len(exact)
    assert mean[0] == pytest.approx(float(middle), rel=1e-12)
    largest = max(map(abs, exact))  # a float holds no square of 1e200
    spread = sum(((value - middle) / largest) ** 2 for value in exact) / len(exact)
    assert std[0] == pytest.approx(math.sqrt(spread) * float(largest), rel=1e-12)
    made = Images(images, (mean, std))[:].numpy()
    assert made.std() == pytest.approx(1, rel=1e-5)


def test_pooling_by_one_keeps_the_bytes():
    images = generator(6).integers(0, 256, (3, 4, 4)).astype(np.uint8)
    assert block_sums(images, 1) is images
    assert block_sums(images, 2).dtype == np.int32
