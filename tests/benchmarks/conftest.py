"""Images for the training kernel."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nasplatform.benchmarks.cellnet import Images


@pytest.fixture(scope="module")
def digits() -> list[Images]:
    """898, 449 and 450 digits, without noise."""
    data = load_digits()
    images = (data.images / 4 - 2)[:, None].astype(np.float32)
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return [Images(images[i], labels[i]) for i in (order[:898], order[898:1347], order[1347:])]
