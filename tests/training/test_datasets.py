import gzip
import struct

import numpy as np
import pytest
import torch

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
