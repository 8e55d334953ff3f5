"""Public objects say in a line what they are; the package lists what it offers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import nasplatform
from nasplatform.benchmarks.registry import load_table
from nasplatform.models.network import Network
from nasplatform.training.datasets import load_task

SPACE = nasplatform.get_space("nasbench101", stem_channels=8)
CELLS = SPACE.sample(4, np.random.default_rng(0))
FITTED = nasplatform.get_predictor("gp-trees").fit(SPACE.graphs(CELLS), [0.1, 0.2, 0.4, 0.3])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SPACE, "<space nasbench101, stem_channels 8>"),
        (CELLS, "<Cells of 4 architectures>"),
        (
            SPACE.graphs(CELLS),
            "<graphs of 4 architectures of space nasbench101, 7 nodes in each of 9 cells>",
        ),
        (nasplatform.get_predictor("gp-trees"), "<predictor gp-trees, seed 0, not fitted>"),
        (FITTED, "<predictor gp-trees, seed 0, fitted to 4 labels of space nasbench101>"),
        (
            FITTED.predict(SPACE.graphs(CELLS[:0])),
            "<prediction of 0 architectures>",
        ),
        (
            load_table("cells-digits"),
            "<table cells-digits: 7,532 architectures of space nasbench101, train_loss, "
            "valid_accuracy, test_accuracy, seconds at 2, 4, 7, 10 epochs, up to 4 seeds>",
        ),
        (Network.named("resnet", depth=8), "<network resnet, 78,042 parameters>"),
        (load_task("digits", {}, "task").test, "<split of 450 labelled images>"),
    ],
)
def test_an_object_in_a_line(made: object, words: str) -> None:
    assert repr(made) == words


def test_what_was_predicted_and_read_shows_its_range() -> None:
    assert repr(FITTED.predict(SPACE.graphs(CELLS))).startswith(
        "<prediction of 4 architectures, mean 0."
    )
    assert repr(load_task("digits", {}, "task")).startswith("<task digits: 1,797 images of 1 x")


def test_the_package_lists_what_it_offers_and_runs() -> None:
    assert dir(nasplatform) == sorted(nasplatform.__all__)
    assert all(hasattr(nasplatform, name) for name in dir(nasplatform))
    command = [sys.executable, "-m", "nasplatform", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nasplatform ")
