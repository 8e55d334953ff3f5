import io
import zipfile

import numpy as np
import pytest
import torch

from nasplatform.errors import DataError
from nasplatform.training.datasets import load_task


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def load(name, **options):
    return load_task(name, options, "searches/x.yaml: task.options")


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
        assert [len(s) for s in (task.train, task.valid, task.test)] == [12, 4, 4]
        assert (task.input_shape, task.classes, task.unlabelled) == ((3, 6, 5), 4, None)
        mean, std = (np.array(v)[:, None, None] for v in (task.mean, task.std))
        raw = (
            np.concatenate([s.inputs[:] for s in (task.train, task.valid, task.test)]) * std + mean
        )
        expected = good()["x_train"].reshape(20, -1)
        found = np.round(raw).astype(int).reshape(20, -1)
        assert np.array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))

    def test_the_same_images_in_two_splits_are_told(self, tmp_path):
        arrays = good() | {"x_test": good()["x_train"][:7], "y_test": good()["y_train"][:7]}
        with pytest.warns(UserWarning, match=r"data\.npz: the same images stand .* train and test"):
            load("npz", path=written(tmp_path, arrays))

    def test_the_same_image_in_two_classes_is_told(self, tmp_path):
        arrays = good()
        arrays["x_train"][1] = arrays["x_train"][0]
        assert arrays["y_train"][0] != arrays["y_train"][1]
        with pytest.warns(UserWarning, match=r"data\.npz: 1 image.s. stand in several classes"):
            load("npz", path=written(tmp_path, arrays), valid_fraction=0.25, test_fraction=0.2)

    def test_given_splits_are_used_and_short_names_work(self, tmp_path):
        others = rng(1).integers(0, 256, (7, 3, 6, 5)).astype(np.uint8)
        arrays = good() | {"x_test": others, "y_test": good()["y_train"][:7]}
        arrays |= {"x_unlabelled": good()["x_train"][:3]}
        long = load("npz", path=written(tmp_path, arrays))
        assert torch.equal(long.test.labels, torch.from_numpy(arrays["y_test"]))
        assert [len(long.train), len(long.valid), len(long.test)] == [16, 4, 7]
        assert long.unlabelled is not None
        assert len(long.unlabelled) == 3
        short = {key.removesuffix("_train"): value for key, value in arrays.items()}
        assert load("npz", path=written(tmp_path, short)).digest == long.digest

    def test_truth_values_are_no_pictures_of_8_bits(self, tmp_path):
        arrays = good()
        assert load("npz", path=written(tmp_path, arrays)).white == 255
        arrays["x_train"] = arrays["x_train"] > 127
        task = load("npz", path=written(tmp_path, arrays))
        assert task.white is None
        assert task.train.inputs.levels() is None

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
            ({"x_train": np.zeros((20, 6, 5), object)}, "cannot be read: it holds an array of obj"),
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

    def test_a_text_is_no_npz_and_nobody_is_told_to_unpickle_it(self, tmp_path):
        path = tmp_path / "data.npz"
        path.write_text("x_train,y_train")
        with pytest.raises(DataError, match=r"it is no \.npz file") as caught:
            load("npz", path=path)
        assert "pickle" not in str(caught.value)

    def test_pickles_are_never_opened(self, tmp_path):
        path = tmp_path / "data.npz"
        np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1, int))
        with zipfile.ZipFile(path) as file:
            assert "x.npy" in file.namelist()
        with pytest.raises(DataError, match="cannot be read"):
            load("npz", path=path)

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((6, 5, 3), (3, 6, 5)),
            ((6, 5, 1), (1, 6, 5)),
            ((5, 6, 4), (4, 5, 6)),
            ((3, 6, 5), (3, 6, 5)),
            ((3, 4, 4), (3, 4, 4)),
            ((4, 4, 3), (3, 4, 4)),
            ((1, 4, 4), (1, 4, 4)),
            ((2, 6, 5), (2, 6, 5)),
        ],
    )
    def test_the_axis_of_the_channels_is_found(self, tmp_path, shape, expected):
        arrays = good() | {"x_train": rng().integers(0, 256, (20, *shape)).astype(np.uint8)}
        assert load("npz", path=written(tmp_path, arrays)).input_shape == expected

    @pytest.mark.parametrize("shape", [(3, 32, 3), (3, 6, 1), (3, 3, 3)])
    def test_two_axes_that_could_be_channels_are_asked_about(self, tmp_path, shape):
        arrays = good() | {"x_train": rng().integers(0, 256, (20, *shape)).astype(np.uint8)}
        path = written(tmp_path, arrays)
        with pytest.raises(DataError, match=r"the second or the last axis could be the channels"):
            load("npz", path=path)
        assert load("npz", path=path, layout="channels-first").input_shape == shape

    def test_a_layout_that_is_given_holds(self, tmp_path):
        arrays = good() | {"x_train": rng().integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)}
        task = load("npz", path=written(tmp_path, arrays), layout="channels-first")
        assert task.input_shape == (6, 5, 3)

    def test_a_class_too_small_to_split_is_named(self, tmp_path):
        labels = good()["y_train"].copy()
        labels[labels == 3] = 0
        labels[7] = 3
        path = written(tmp_path, good() | {"y_train": labels})
        with pytest.raises(DataError, match=r"class 3 has 1 image\(s\), and valid, test and train"):
            load("npz", path=path)
