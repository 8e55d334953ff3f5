import numpy as np
import pytest
import torch
from PIL import Image

from nasplatform.errors import DataError
from nasplatform.training.datasets import load_task
from nasplatform.training.decoding import read_image


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def load(name, **options):
    return load_task(name, options, "searches/x.yaml: task.options")


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

    def test_usual_names_of_splits_are_taken(self, tmp_path):
        for seed, part in enumerate(("training", "val", "testing")):
            images(tmp_path / part, count=3 + seed, side=8, seed=seed)
        task = load("folder", path=tmp_path, size=8)
        assert [len(s) for s in (task.train, task.valid, task.test)] == [6, 8, 10]

    def test_names_that_could_mean_two_things_are_refused(self, tmp_path):
        images(tmp_path / "train")
        images(tmp_path / "val", seed=1)
        images(tmp_path / "valid", seed=2)
        with pytest.raises(DataError, match=r"has val/ and valid/: keep one"):
            load("folder", path=tmp_path)
        (tmp_path / "valid").rename(tmp_path / "extra")
        with pytest.raises(DataError, match=r"extra stands beside .*train: expected train"):
            load("folder", path=tmp_path)
        (tmp_path / "extra").rename(tmp_path / "__MACOSX")
        (tmp_path / "train").rename(tmp_path / "pictures")
        with pytest.raises(DataError, match=r"has val/ but no train/"):
            load("folder", path=tmp_path)

    def test_a_class_may_be_called_train(self, tmp_path):
        images(tmp_path, names=("bus", "test", "train"))
        assert load("folder", path=tmp_path, size=8).class_names == ("bus", "test", "train")

    def test_folders_in_a_class_belong_to_it_and_hidden_files_do_not(self, tmp_path):
        images(tmp_path)
        (tmp_path / "cat" / "old").mkdir()
        (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "old" / "0.png")
        (tmp_path / "cat" / "._1.png").write_bytes(b"no image")
        task = load("folder", path=tmp_path, size=8)
        assert [len(s) for s in (task.train, task.valid, task.test)] == [6, 2, 2]

    def test_an_empty_or_tiny_class_is_named(self, tmp_path):
        images(tmp_path)
        (tmp_path / "eel").mkdir()
        with pytest.raises(DataError, match="eel holds no image"):
            load("folder", path=tmp_path)
        (tmp_path / "cat" / "0.png").rename(tmp_path / "eel" / "0.png")
        with pytest.raises(DataError, match=r"class 'eel' has 1 image\(s\).*valid and test data"):
            load("folder", path=tmp_path)

    def test_pictures_are_turned_as_exif_says(self, tmp_path):
        images(tmp_path, side=8)
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, :4] = 200
        turned = Image.Exif()
        turned[0x0112] = 6  # to be shown a quarter turn clockwise
        path = tmp_path / "cat" / "0.png"
        Image.fromarray(pixels).save(path, exif=turned)
        found = read_image(path, (8, 8), grey=True)[0]
        assert np.array_equal(found, np.rot90(pixels[:, :, 0], -1))

    def test_a_damaged_picture_is_one_line(self, tmp_path):
        images(tmp_path)
        path = tmp_path / "cat" / "0.png"
        content = bytearray(path.read_bytes())
        content[content.index(b"IDAT") + 20] ^= 0xFF
        path.write_bytes(bytes(content[:-30]))
        with pytest.raises(DataError, match=r"0\.png cannot be read as an image") as caught:
            load("folder", path=tmp_path)
        assert "\n" not in str(caught.value)
