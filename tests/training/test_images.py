"""CIFAR-10, CIFAR-100 and MNIST from small files in their real formats, and from the real ones."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nasplatform.errors import ConfigError, DataError
from nasplatform.training.cifar import read_cifar
from nasplatform.training.datasets import load_task

DATA = Path(os.environ.get("NASPLATFORM_DATA", "missing"))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)


def real(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (DATA / name).exists(), reason=f"NASPLATFORM_DATA names no folder with {name}"
    )


def write_cifar10(folder: Path) -> Path:
    """Six binary batches of 20 images: label, then the planes."""
    folder.mkdir(parents=True)
    labels = np.tile(np.arange(10, dtype=np.uint8), 12)
    records = np.concatenate([labels[:, None], PIXELS.reshape(120, -1)], axis=1)
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(records[20 * number : 20 * number + 20].tobytes())
    (folder / "batches.meta.txt").write_text("airplane\n")
    return folder


def write_cifar100(folder: Path) -> Path:
    """100 training and 20 test images: coarse label, fine label, the planes."""
    folder.mkdir(parents=True)
    fine = np.arange(120, dtype=np.uint8) % 100
    records = np.concatenate([fine[:, None] // 5, fine[:, None], PIXELS.reshape(120, -1)], axis=1)
    (folder / "train.bin").write_bytes(records[:100].tobytes())
    (folder / "test.bin").write_bytes(records[100:].tobytes())
    return folder


def write_mosaics(path: Path, split: bool) -> Path:
    """Three mosaics of 5 x 8 tiles; the last holds the test images if there are any."""
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            tiles = PIXELS[40 * number : 40 * number + 40].reshape(5, 8, 3, 32, 32)
            picture = io.BytesIO()
            mosaic = tiles.transpose(0, 3, 1, 4, 2).reshape(160, 256, 3)
            Image.fromarray(mosaic).save(picture, "webp", lossless=True)
            archive.writestr(f"m{number}.webp", picture.getvalue())
            rows += [(f"m{number}.webp", pos, (40 * number + pos) % 10) for pos in range(40)]
        index = pd.DataFrame(rows, columns=["mosaic", "pos", "label"])
        if split:
            index["split"] = ["train"] * 80 + ["test"] * 40
        archive.writestr("index.csv", index.to_csv(index=False))
    return path


def archived(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    return path


def test_cifar10_folder_archive_and_their_parent_are_the_same(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path / "up" / "cifar-10-batches-bin")
    forms = [folder, tmp_path / "up", archived(folder, tmp_path / "c.tar.gz")]
    for form in forms:
        found = read_cifar(form)
        assert found.classes == 10
        assert np.array_equal(found.train[0], PIXELS[:100])
        assert np.array_equal(found.train[1], np.arange(100) % 10)
        assert found.test is not None
        assert np.array_equal(found.test[0], PIXELS[100:])
    digests = {
        load_task("cifar10", {"path": str(form), "valid_size": 30}, "task").digest for form in forms
    }
    assert len(digests) == 1


def test_cifar100_labels_are_the_fine_ones(tmp_path: Path) -> None:
    found = read_cifar(write_cifar100(tmp_path / "cifar-100-binary"))
    assert found.classes == 100
    assert found.train[1].tolist() == list(range(100))
    assert found.test is not None
    assert found.test[1].tolist() == list(range(20))
    assert np.array_equal(found.test[0], PIXELS[100:])


@pytest.mark.parametrize("split", [True, False])
def test_mosaics_are_pixel_identical(tmp_path: Path, split: bool) -> None:
    found = read_cifar(write_mosaics(tmp_path / "m.zip", split))
    assert np.array_equal(found.train[0], PIXELS[: 80 if split else 120])
    assert (found.test is not None) == split
    if found.test is not None:
        assert np.array_equal(found.test[0], PIXELS[80:])
        assert found.test[1].tolist() == [n % 10 for n in range(80, 120)]


def test_splits_are_standardised_disjoint_and_stable(tmp_path: Path) -> None:
    folder = str(write_cifar10(tmp_path / "c"))
    options = {"path": folder, "train_size": 60, "valid_size": 30, "test_size": 15}
    task = load_task("cifar10", options, "task")
    assert (len(task.train), len(task.valid), len(task.test)) == (60, 30, 15)
    assert task.unlabelled is not None
    assert len(task.unlabelled) == 10
    assert task.input_shape == (3, 32, 32)
    raw = [
        np.rint(
            x[:].numpy() * np.array(task.std)[:, None, None] + np.array(task.mean)[:, None, None]
        )
        for x in (task.train.inputs, task.valid.inputs, task.unlabelled)
    ]
    seen = {image.astype(np.uint8).tobytes() for part in raw for image in part}
    assert seen == {image.tobytes() for image in PIXELS[:100]}
    assert np.allclose(task.train.inputs[:].mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(task.train.inputs[:].std((0, 2, 3)), 1, atol=1e-3)
    again = load_task("cifar10", options, "task")
    assert again.digest == task.digest
    assert load_task("cifar10", options | {"seed": 1}, "task").digest != task.digest
    fewer = load_task("cifar10", options | {"train_size": 50}, "task")
    assert fewer.valid.labels.tolist() == task.valid.labels.tolist()


def test_unlabelled_data_from_the_other_set(tmp_path: Path) -> None:
    path, other = write_cifar10(tmp_path / "ten"), write_cifar100(tmp_path / "hundred")
    options = {"path": str(path), "valid_size": 30, "unlabelled": str(other)}
    task = load_task("cifar10", options, "task")
    assert task.unlabelled is not None
    mean, std = (np.array(v)[:, None, None] for v in (task.mean, task.std))
    assert np.allclose(task.unlabelled[:].numpy(), (PIXELS[:100] - mean) / std, atol=1e-5)


def test_without_test_images_some_are_held_out(tmp_path: Path) -> None:
    path = str(write_mosaics(tmp_path / "m.zip", split=False))
    with pytest.raises(DataError, match="give test_size to hold some out"):
        load_task("cifar10", {"path": path, "valid_size": 30}, "task")
    task = load_task("cifar10", {"path": path, "valid_size": 30, "test_size": 25}, "task")
    assert (len(task.train), len(task.valid), len(task.test)) == (65, 30, 25)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"valid_size": 100}, "valid_size is 100, there are 100 images"),
        ({"valid_size": 30, "train_size": 71}, "train_size is 71, 70 images are left"),
        ({"valid_size": 30, "test_size": 21}, "test_size is 21, there are 20 images"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path: Path, options: dict[str, int], words: str) -> None:
    folder = write_cifar10(tmp_path / "c")
    with pytest.raises(DataError, match=words):
        load_task("cifar10", {"path": str(folder), **options}, "task")


def test_wrong_files_are_data_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError, match="nasplatform data fetch cifar10"):
        load_task("cifar10", {}, "task")
    with pytest.raises(ConfigError, match=r"task\.train_size"):
        load_task("cifar10", {"train_size": 0}, "task")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no binary CIFAR"):
        read_cifar(tmp_path / "empty")
    with pytest.raises(DataError, match="is CIFAR-100, not CIFAR-10"):
        load_task("cifar10", {"path": str(write_cifar100(tmp_path / "h"))}, "task")
    folder = write_cifar10(tmp_path / "c")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing"):
        read_cifar(folder)
    (folder / "data_batch_3.bin").write_bytes(bytes(3073 * 2 - 1))
    with pytest.raises(DataError, match=r"data_batch_3\.bin has 6,145 bytes"):
        read_cifar(folder)
    (folder / "data_batch_3.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match="label 10, expected 0 to 9"):
        read_cifar(folder)


def test_damaged_archives_are_data_errors(tmp_path: Path) -> None:
    archive = archived(write_cifar10(tmp_path / "c"), tmp_path / "c.tar.gz")
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(DataError, match="cannot be read as a CIFAR archive"):
        read_cifar(archive)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read as a CIFAR archive"):
        read_cifar(tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("a", "b")
    with pytest.raises(DataError, match="not a zip of mosaics"):
        read_cifar(tmp_path / "other.zip")
    for csv, words in (
        ("mosaic,pos\na,0\n", "no column 'label'"),
        ("mosaic,pos,label\nx.webp,0,high\n", "no whole number"),
        ("mosaic,pos,label\nx.webp,0,100\n", "outside of 0 to 99"),
        ("mosaic,pos,label\nx.webp,0,1\n", "not a zip of mosaics"),
    ):
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as other:
            other.writestr("index.csv", csv)
        with pytest.raises(DataError, match=words):
            read_cifar(tmp_path / "m.zip")


def test_a_pickled_archive_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match="no binary CIFAR"):
        read_cifar(archived(folder, tmp_path / "c.tar.gz"))


def write_idx(path: Path, values: np.ndarray) -> None:
    shape = values.shape
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header + values.tobytes())


def test_mnist_from_idx_files_and_npz_are_the_same(tmp_path: Path) -> None:
    arrays = {}
    for part, official, count in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 3:6, 3:6] = RNG.integers(0, 256, (count, 3, 3))
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(tmp_path / f"{official}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{official}-labels-idx1-ubyte.gz", labels)
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(tmp_path / "m.npz", **arrays)
    sizes = {"train_size": 300, "valid_size": 200, "test_size": 100}
    tasks = [
        load_task("mnist", {"path": str(path), **sizes}, "task")
        for path in (tmp_path, tmp_path / "m.npz")
    ]
    assert tasks[0].digest == tasks[1].digest
    assert tasks[0].input_shape == (1, 28, 28)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="nasplatform data fetch mnist"):
        load_task("mnist", {"path": str(tmp_path), **sizes}, "task")


def test_npz_that_is_not_mnist(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, x_train=np.zeros((2, 28, 28), np.uint8), y_train=np.zeros(2, np.int64))
    with pytest.raises(DataError, match="'x_test' or 'y_test' is missing"):
        load_task("mnist", {"path": str(path)}, "task")
    arrays = {f"x_{part}": np.zeros((2, 28, 27), np.uint8) for part in ("train", "test")}
    np.savez(path, y_train=np.zeros(2, np.int64), y_test=np.zeros(2, np.int64), **arrays)
    with pytest.raises(DataError, match="is not MNIST"):
        load_task("mnist", {"path": str(path)}, "task")


@real("cifar10_lossless_webp.zip")
@pytest.mark.slow
def test_the_real_cifar10(tmp_path: Path) -> None:
    path = DATA / "cifar10_lossless_webp.zip"
    found = read_cifar(path)
    assert found.classes == 10
    assert np.bincount(found.train[1]).tolist() == [5000] * 10
    assert found.test is not None
    assert np.bincount(found.test[1]).tolist() == [1000] * 10
    mean = found.train[0].mean((0, 2, 3), dtype=np.float64) / 255  # as everybody publishes it
    assert mean == pytest.approx([0.49140, 0.48216, 0.44653], abs=1e-5)


@real("cifar100_20k_lossless_webp.zip")
def test_the_real_cifar100(tmp_path: Path) -> None:
    found = read_cifar(DATA / "cifar100_20k_lossless_webp.zip")
    assert found.classes == 100
    assert np.bincount(found.train[1]).tolist() == [200] * 100


@real("mnist.npz")
def test_the_real_mnist() -> None:
    options = {"path": str(DATA / "mnist.npz"), "train_size": 1000, "test_size": 1000}
    task = load_task("mnist", options, "task")
    assert task.classes == 10
    assert task.mean[0] / 255 == pytest.approx(0.1307, abs=0.005)
