import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from nasplatform.errors import ConfigError, DataError, PluginError
from nasplatform.training.datasets import FASHION_FOLDER, load_task

HERE = "searches/x.yaml: task.options"


SMALL = {"train_size": 1000, "valid_size": 500, "test_size": 300, "pool": 4}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def load(name, **options):
    return load_task(name, options, HERE)


class TestLoadTask:
    def test_unknown_name_is_refused_with_a_suggestion(self):
        with pytest.raises(PluginError, match="did you mean 'digits'"):
            load("digit")

    def test_unknown_option_names_file_and_key(self):
        with pytest.raises(ConfigError, match=r"task\.options\.nois: unknown key 'nois'"):
            load("digits", nois=1)

    def test_impossible_option_names_file_and_key(self):
        with pytest.raises(ConfigError, match=r"task\.options\.noise"):
            load("digits", noise=-1)
        with pytest.raises(ConfigError, match="must be below 1"):
            load("npz", path="x", valid_fraction=0.5, test_fraction=0.5)
        with pytest.raises(ConfigError, match="must not exceed 60000"):
            load("fashion-mnist", train_size=60_000)


class TestDigits:
    def test_splits_and_scale(self):
        task = load("digits")
        assert [len(s) for s in (task.train, task.valid, task.test)] == [898, 449, 450]
        assert (task.input_shape, task.classes, task.unlabelled) == ((1, 8, 8), 10, None)
        assert float(task.train.inputs[:].std()) == pytest.approx(1, abs=0.01)

    def test_without_noise_the_images_are_scikit_learns(self):
        from sklearn.datasets import load_digits

        task = load("digits", noise=0)
        raw = task.train.inputs[:] * task.std[0] + task.mean[0]
        known = {image.tobytes() for image in load_digits().images.astype(np.int64)}
        found = {image.tobytes() for image in raw.round().long().numpy()[:, 0]}
        assert found <= known
        assert float((raw - raw.round()).abs().max()) < 1e-4
        parts = [s.inputs[:].numpy() for s in (task.train, task.valid, task.test)]
        assert len(np.unique(np.concatenate(parts), axis=0)) == 1797  # no image is in two splits

    def test_noise_is_fixed_and_seeded(self):
        assert load("digits").digest == load("digits").digest
        assert load("digits", seed=1).digest != load("digits").digest
        clean, noisy = load("digits", noise=0), load("digits", noise=2)
        noise = noisy.train.inputs[:] * np.sqrt(5) - clean.train.inputs[:]
        assert float(noise.std()) == pytest.approx(2, abs=0.02)
        assert torch.equal(clean.train.labels, noisy.train.labels)


@pytest.mark.skipif(
    not FASHION_FOLDER.is_dir(), reason=f"needs Debian's dataset-fashion-mnist in {FASHION_FOLDER}"
)
class TestFashionMnist:
    def test_pooled_images_are_block_means_of_the_official_files(self):
        task = load("fashion-mnist", **SMALL)
        assert [len(s) for s in (task.train, task.valid, task.test)] == [1000, 500, 300]
        assert task.input_shape == (1, 7, 7)
        assert task.unlabelled is not None
        assert len(task.unlabelled) == 58_500
        data = gzip.decompress((FASHION_FOLDER / "t10k-images-idx3-ubyte.gz").read_bytes())
        raw = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
        made = (task.test.inputs[:][:, 0] * task.std[0] + task.mean[0]).numpy()
        known = {tuple(np.round(image.ravel() * 16).astype(int)) for image in raw}
        assert all(tuple(np.round(image.ravel() * 16).astype(int)) in known for image in made)

    def test_validation_images_do_not_depend_on_the_training_size(self):
        first = load("fashion-mnist", **SMALL)
        second = load("fashion-mnist", **{**SMALL, "train_size": 2000})
        assert torch.equal(first.valid.labels, second.valid.labels)
        assert torch.equal(first.train.labels, second.train.labels[:1000])


class TestFashionFiles:
    def test_missing_folder_says_how_to_get_it(self, tmp_path):
        with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
            load("fashion-mnist", path=tmp_path)

    @pytest.mark.parametrize(
        "content",
        [
            b"not gzip",
            gzip.compress(b"x" * 40)[:-9],
            gzip.compress(struct.pack(">4I", 0x803, 10, 28, 28) + bytes(7840)),
        ],
        ids=["no gzip", "cut short", "of another count"],
    )
    def test_wrong_files_are_refused(self, tmp_path, content):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(DataError, match="train-images-idx3-ubyte") as caught:
            load("fashion-mnist", path=tmp_path)
        assert "\n" not in str(caught.value)


def good() -> dict[str, np.ndarray]:
    return {
        "x_train": rng().integers(0, 256, (20, 3, 6, 5)).astype(np.uint8),
        "y_train": np.arange(20) % 4,
    }


def written(tmp_path, arrays) -> str:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return str(path)


class TestNpz:
    def test_missing_splits_are_held_out(self, tmp_path):
        task = load("npz", path=written(tmp_path, good()), valid_fraction=0.25, test_fraction=0.2)
        assert [len(s) for s in (task.train, task.valid, task.test)] == [11, 5, 4]
        assert (task.input_shape, task.classes, task.unlabelled) == ((3, 6, 5), 4, None)
        mean, std = (np.array(v)[:, None, None] for v in (task.mean, task.std))
        raw = (
            np.concatenate([s.inputs[:] for s in (task.train, task.valid, task.test)]) * std + mean
        )
        expected = good()["x_train"].reshape(20, -1)
        found = np.round(raw).astype(int).reshape(20, -1)
        assert np.array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))

    def test_given_splits_are_used_and_short_names_work(self, tmp_path):
        arrays = good() | {"x_test": good()["x_train"][:7], "y_test": good()["y_train"][:7]}
        arrays |= {"x_unlabelled": good()["x_train"][:3]}
        long = load("npz", path=written(tmp_path, arrays))
        assert torch.equal(long.test.labels, torch.from_numpy(arrays["y_test"]))
        assert [len(long.train), len(long.valid), len(long.test)] == [16, 4, 7]
        assert long.unlabelled is not None
        assert len(long.unlabelled) == 3
        short = {key.removesuffix("_train"): value for key, value in arrays.items()}
        assert load("npz", path=written(tmp_path, short)).digest == long.digest

    @pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float16, np.float64])
    def test_any_real_type_gives_the_same_task(self, tmp_path, kind):
        arrays = good()
        expected = load("npz", path=written(tmp_path, arrays))
        arrays["x_train"] = arrays["x_train"].astype(kind)
        found = load("npz", path=written(tmp_path, arrays))
        torch.testing.assert_close(found.train.inputs[:], expected.train.inputs[:])

    def test_grey_images_and_channels_last(self, tmp_path):
        grey = good() | {"x_train": good()["x_train"][:, 0]}
        assert load("npz", path=written(tmp_path, grey)).input_shape == (1, 6, 5)
        expected = load("npz", path=written(tmp_path, good()))
        last = good() | {"x_train": np.moveaxis(good()["x_train"], 1, 3)}
        found = load("npz", path=written(tmp_path, last), layout="channels-last")
        assert found.digest == expected.digest
        masks = good() | {"x_train": good()["x_train"] > 99}
        assert load("npz", path=written(tmp_path, masks)).input_shape == (3, 6, 5)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"x_train": None}, "array 'x_train' is missing"),
            ({"y_train": None}, "array 'y_train' is missing"),
            ({"x_valid": good()["x_train"]}, "array 'y_valid' is missing"),
            ({"y_valid": good()["y_train"]}, "array 'x_valid' is missing"),
            ({"x_trian": np.zeros(3)}, "unknown array 'x_trian'"),
            ({"x_train": np.zeros((20, 9))}, r"'x_train' has shape \(20, 9\), expected"),
            ({"x_train": np.zeros((0, 6, 5))}, r"'x_train' has shape \(0, 6, 5\)"),
            ({"x_train": np.zeros((20, 6, 5), complex)}, "type complex128, expected integers"),
            ({"x_train": np.full((20, 6, 5), "a")}, "expected integers or floats"),
            (
                {"x_train": np.full((20, 6, 5), np.nan)},
                "'x_train' holds values that are not finite",
            ),
            ({"x_train": np.ones((20, 6, 5))}, "channel 0 is the same in every training pixel"),
            (
                {"y_train": np.zeros((20, 1), int)},
                r"'y_train' has shape \(20, 1\), expected \(20,\)",
            ),
            ({"y_train": np.arange(19)}, r"'y_train' has shape \(19,\)"),
            ({"y_train": np.arange(20) / 2}, "'y_train' has type float64, expected integers"),
            ({"y_train": np.arange(20) % 4 + 1}, "labels must be 0..K-1"),
            ({"y_train": np.zeros(20, int)}, r"1 class\(es\)"),
            (
                {"x_valid": np.ones((5, 3, 6, 6)), "y_valid": np.zeros(5, int)},
                "splits have images of different shapes",
            ),
            ({"x_unlabelled": np.ones((5, 1, 6, 5))}, "images of different shapes"),
            (
                {"x_valid": good()["x_train"], "y_valid": np.full(20, 9)},
                "label 9 of the valid split",
            ),
        ],
    )
    def test_bad_arrays_are_refused_in_one_line(self, tmp_path, changes, words):
        arrays = {key: value for key, value in (good() | changes).items() if value is not None}
        path = written(tmp_path, arrays)
        with pytest.raises(DataError, match=words) as caught:
            load("npz", path=path)
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"x": None}, "array 'x' is missing"),
            ({"y": None}, "array 'y' is missing"),
            ({"x": np.zeros((20, 9))}, r"array 'x' has shape \(20, 9\)"),
            ({"y": np.arange(20) / 2}, "array 'y' has type float64"),
            ({"z": np.zeros(1)}, r"unknown array 'z'; known are x, "),
        ],
    )
    def test_short_names_are_called_as_they_were_written(self, tmp_path, changes, words):
        short = {key.removesuffix("_train"): value for key, value in good().items()} | changes
        with pytest.raises(DataError, match=words):
            load("npz", path=written(tmp_path, {k: v for k, v in short.items() if v is not None}))

    def test_files_that_are_no_npz_are_refused(self, tmp_path):
        path = tmp_path / "data.npz"
        with pytest.raises(DataError, match="does not exist"):
            load("npz", path=path)
        single = io.BytesIO()
        np.save(single, np.zeros(3))
        intact = written(tmp_path, good())
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[200:300] = bytes(100)
        assert intact == str(path)
        for content in (b"", b"text", single.getvalue(), whole[: len(whole) // 2], bytes(broken)):
            path.write_bytes(content)
            with pytest.raises(DataError, match="cannot be read"):
                load("npz", path=path)

    def test_pickles_are_never_opened(self, tmp_path):
        path = tmp_path / "data.npz"
        np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1, int))
        with zipfile.ZipFile(path) as file:
            assert "x.npy" in file.namelist()
        with pytest.raises(DataError, match="cannot be read"):
            load("npz", path=path)


def images(folder, names=("cat", "dog"), count=5, side=9, seed=0):
    draw = rng(seed)
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(k * 60, k * 60 + 120, (side, side + 3, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


class TestImageFolder:
    def test_classes_are_directories_in_alphabetical_order(self, tmp_path):
        images(tmp_path)
        (tmp_path / ".hidden").mkdir()
        (tmp_path / "cat" / "notes.txt").write_text("no image")
        task = load("folder", path=tmp_path, size=8)
        assert [len(s) for s in (task.train, task.valid, task.test)] == [6, 2, 2]
        assert (task.input_shape, task.classes) == ((3, 8, 8), 2)
        means = [task.train.inputs[:][task.train.labels == k].mean() for k in (0, 1)]
        assert means[0] < means[1]  # dogs are brighter
        assert load("folder", path=tmp_path, size=8, grey=True).input_shape == (1, 8, 8)

    def test_split_directories_are_used(self, tmp_path):
        for seed, part in enumerate(("train", "valid", "test")):
            images(tmp_path / part, count=3 + seed, side=8, seed=seed)
        task = load("folder", path=tmp_path, size=8)
        assert [len(s) for s in (task.train, task.valid, task.test)] == [6, 8, 10]

    def test_pixels_are_those_of_the_file(self, tmp_path):
        images(tmp_path, side=8)
        for path in tmp_path.rglob("*.png"):
            pixels = np.asarray(Image.open(path))[:, :8]
            Image.fromarray(pixels).save(path)
        task = load("folder", path=tmp_path, size=8)
        mean, std = (torch.tensor(values)[:, None, None] for values in (task.mean, task.std))
        found = {
            image.astype(np.uint8).tobytes()
            for split in (task.train, task.valid, task.test)
            for image in (split.inputs[:] * std + mean).round().permute(0, 2, 3, 1).numpy()
        }
        known = {np.asarray(Image.open(path)).tobytes() for path in tmp_path.rglob("*.png")}
        assert found == known

    def test_what_is_wrong_is_said(self, tmp_path):
        with pytest.raises(DataError, match="is not a directory"):
            load("folder", path=tmp_path / "none")
        with pytest.raises(DataError, match="expected one directory per class"):
            load("folder", path=tmp_path)
        (tmp_path / "cat").mkdir()
        with pytest.raises(DataError, match="no image files"):
            load("folder", path=tmp_path)
        (tmp_path / "cat" / "0.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"cat/0\.png cannot be read as an image"):
            load("folder", path=tmp_path)

    def test_strange_class_and_deep_pixels_are_refused(self, tmp_path):
        images(tmp_path / "train")
        images(tmp_path / "valid", names=("cat", "eel"))
        with pytest.raises(DataError, match="eel is a class that the training images lack"):
            load("folder", path=tmp_path)
        (tmp_path / "valid" / "eel").rename(tmp_path / "valid" / "dog")
        Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(tmp_path / "train" / "cat" / "0.png")
        with pytest.raises(DataError, match=r"has I;16 pixels, expected 8 bits"):
            load("folder", path=tmp_path)
