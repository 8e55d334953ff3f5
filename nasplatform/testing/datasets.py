"""The contract of a data set as tests; a plug-in author inherits them in a test module.

class TestMyDataset(DatasetContract):
    dataset_name = "my-dataset"
    options = {"size": 200}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from nasplatform import plugins
from nasplatform.errors import ConfigError
from nasplatform.plugin_contracts import options_model
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Split, Task


class DatasetContract:
    """What every data set must do.

    dataset_name: the name under which it is registered.
    options:      so chosen that it is small.
    """

    dataset_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        """Return the data; tests leave them as they are."""
        return cls.load()

    @classmethod
    def load(cls, **changes: Any) -> Task:
        """Load the data set as a search file does."""
        return load_task(cls.dataset_name, {**cls.options, **changes}, "contract")

    @staticmethod
    def splits(task: Task) -> Mapping[str, Split]:
        """Return the splits by name."""
        return {"train": task.train, "valid": task.valid, "test": task.test}

    def test_splits_are_images_with_labels(self, task: Task) -> None:
        """Standardised float32 images of one shape; labels 0..K-1, each of them in training."""
        for name, split in self.splits(task).items():
            images = split.inputs[:2]
            assert len(split) == len(split.inputs) == len(split.labels) > 0, name
            assert images.dtype == torch.float32, name
            assert tuple(images.shape[1:]) == task.input_shape, name
            assert split.labels.dtype == torch.int64, name
            assert 0 <= int(split.labels.min()) <= int(split.labels.max()) < task.classes, name
        assert sorted(set(task.train.labels.tolist())) == list(range(task.classes))

    def test_training_images_are_standardised(self, task: Task) -> None:
        """Every channel has mean 0 and deviation 1, by the statistics that the task tells."""
        images = task.train.inputs[:].double()
        assert torch.isfinite(images).all()
        assert images.mean((0, 2, 3)).abs().max() < 1e-2
        assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-2
        assert len(task.mean) == len(task.std) == task.input_shape[0]
        assert min(task.std) > 0

    def test_no_image_is_in_two_splits(self, task: Task) -> None:
        """What is judged was not learnt from."""
        rows = {
            name: {image.tobytes() for image in split.inputs[:].numpy()}
            for name, split in self.splits(task).items()
        }
        assert not rows["train"] & rows["test"]
        assert not rows["train"] & rows["valid"]
        assert not rows["valid"] & rows["test"]

    def test_same_options_same_data(self, task: Task) -> None:
        """Loading draws from no global generator and changes none."""
        before, seen = torch.random.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
        again = self.load()
        assert torch.equal(torch.random.get_rng_state(), before)
        assert again.digest == task.digest
        assert torch.equal(again.train.labels, task.train.labels)
        assert torch.equal(again.train.inputs[:4], task.train.inputs[:4])
        assert str(np.random.get_state()) == seen  # noqa: NPY002

    def test_another_seed_draws_other_data(self, task: Task) -> None:
        """Where there is a seed."""
        model = options_model(plugins.get("datasets", self.dataset_name))
        if "seed" not in model.model_fields:
            pytest.skip("the data set has no seed")
        assert self.load(seed=self.options.get("seed", 0) + 1).digest != task.digest

    def test_unknown_options_are_refused(self) -> None:
        """A misspelt key is told, not ignored."""
        with pytest.raises(ConfigError, match="unknown key 'no_such_option'"):
            self.load(no_such_option=1)

    def test_unlabelled_images_are_like_the_others(self, task: Task) -> None:
        """Where there are any."""
        if task.unlabelled is None:
            pytest.skip("the data set has no unlabelled images")
        assert tuple(task.unlabelled[:1].shape[1:]) == task.input_shape
        assert task.unlabelled[:1].dtype == torch.float32
