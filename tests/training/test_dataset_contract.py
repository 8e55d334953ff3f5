"""Data sets that can be had offline keep the contract; the others read the same kinds of files."""

from pathlib import Path

import numpy as np
import pytest

from nasplatform.testing.datasets import DatasetContract


class TestDigits(DatasetContract):
    dataset_name = "digits"


class TestNpz(DatasetContract):
    dataset_name = "npz"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def file(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        rng = np.random.default_rng(0)
        arrays = {
            f"{axis}_{part}": rng.integers(0, 256, (30, 1, 8, 8), np.uint8)
            if axis == "x"
            else np.arange(30) % 3
            for axis in "xy"
            for part in ("train", "valid", "test")
        }
        path = tmp_path_factory.mktemp("npz") / "data.npz"
        np.savez(path, **arrays)
        cls.options = {"path": str(path)}


class TestFashion(DatasetContract):
    dataset_name = "fashion-mnist"
    options = {"train_size": 600, "valid_size": 300, "test_size": 300, "pool": 4}  # noqa: RUF012

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def at_hand(cls) -> None:
        from nasplatform.atomic_io import datasets_folder
        from nasplatform.training.datasets import FASHION_FOLDER

        folders: list[Path] = [FASHION_FOLDER, datasets_folder() / "fashion-mnist"]
        if not any(folder.is_dir() for folder in folders):
            pytest.skip("fashion-mnist is not on this machine: nasplatform data fetch it")
