import hashlib

import numpy as np
import pytest
import torch

from nasplatform.training.decoding import PIXELS
from nasplatform.training.image_store import DiskImages, Images
from nasplatform.training.preprocessing import channel_statistics

RNG = np.random.default_rng(0)
PIXELS_8 = RNG.integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)


def on_disk(folder, pixels=PIXELS_8) -> DiskImages:
    (folder / PIXELS).write_bytes(pixels.tobytes())
    digests = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
    whole = pixels.astype(np.int64)
    return DiskImages(
        path=folder / PIXELS,
        file_shape=pixels.shape,
        rows=np.arange(len(pixels)),
        sums=whole.sum((2, 3)),
        squares=(whole**2).sum((2, 3)),
        digests=np.array([list(digest) for digest in digests], np.uint8),
    )


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint64, np.float16, np.float32, float]
)
def test_images_are_standardised_as_numpy_does_it_in_float64(dtype):
    raw = PIXELS_8.astype(dtype)
    mean, std = channel_statistics(raw)
    images = Images(raw, (mean, std))
    wanted = ((raw - mean[:, None, None]) / std[:, None, None]).astype(np.float32)
    assert torch.equal(images[:], torch.from_numpy(wanted))
    rows = torch.tensor([3, 1, 3])
    assert torch.equal(images[rows], images[:][rows])
    assert torch.equal(images[rows.numpy()], images[2:4][[1, 0, 1]] * 0 + images[:][rows])
    assert images.shape == (50, 3, 4, 5)
    assert images.raw.dtype == dtype  # kept as it is
    assert np.array_equal(images.raw, raw)


def test_standardised_images_pass_as_they_are():
    raw = RNG.standard_normal((4, 1, 2, 2)).astype(np.float32)
    images = Images(raw)
    assert torch.equal(images[1:3], torch.from_numpy(raw[1:3]))
    assert images.levels() is None


def test_images_on_disk_are_those_in_memory(tmp_path):
    disk = on_disk(tmp_path)
    order = RNG.permutation(50)[:20]
    chosen = disk[order]
    assert chosen.shape == (20, 3, 4, 5)
    assert chosen.size == 20 * 60
    assert np.array_equal(np.asarray(chosen), PIXELS_8[order])
    assert np.array_equal(np.asarray(chosen[3:7]), PIXELS_8[order[3:7]])
    for found, expected in zip(
        channel_statistics(chosen), channel_statistics(PIXELS_8[order]), strict=True
    ):
        assert np.array_equal(found, expected)
    scale = channel_statistics(chosen)
    rows = torch.tensor([5, 0, 19])
    assert torch.equal(Images(chosen, scale)[rows], Images(PIXELS_8[order], scale)[rows])


def test_digests_tell_pixels_order_and_scale_apart(tmp_path):
    def digest(images: Images) -> str:
        found = hashlib.sha256()
        images.add_to(found)
        return found.hexdigest()

    disk, scale = on_disk(tmp_path), channel_statistics(PIXELS_8)
    other = (scale[0] + 1, scale[1])
    reverse = np.arange(50)[::-1]
    digests = [
        digest(Images(raw, how))
        for raw in (PIXELS_8, PIXELS_8[reverse], disk, disk[reverse], disk[:40])
        for how in (scale, other)
    ]
    assert len(set(digests)) == len(digests)
    assert digest(Images(disk[np.arange(50)], scale)) == digest(Images(disk, scale))


def test_levels_are_black_and_white():
    images = Images(PIXELS_8, channel_statistics(PIXELS_8))
    black, white = images.levels()
    extremes = np.stack([np.zeros((3, 1, 1)), np.full((3, 1, 1), 255)]).astype(np.uint8)
    expected = Images(extremes, images.scale)[:]
    assert torch.equal(black, expected[0, :, 0, 0])
    assert torch.equal(white, expected[1, :, 0, 0])
    assert Images(PIXELS_8.astype(np.int32), images.scale).levels() is None
