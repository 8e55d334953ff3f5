"""Predictors of others, damaged where only a prediction comes to it."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nasplatform.cli import main
from nasplatform.predictors import get_predictor
from nasplatform.runs.saved import save_predictor
from nasplatform.spaces import get_space


def damaged(arrays):
    """Let each tree ask for a feature that there is not."""
    return {**arrays, "tree_feature": np.full_like(arrays["tree_feature"], 1 << 20)}


@pytest.mark.parametrize("by_file", [False, True])
def test_a_predictor_that_cannot_predict_is_told_in_one_line(tmp_path, capsys, by_file):
    space = get_space("nasbench201")
    cells = space.sample(20, np.random.default_rng(0))
    graphs = space.graphs(cells)
    made = get_predictor("trees", trees=3).fit(graphs, np.arange(20.0))
    save_predictor(made, space, tmp_path / "mine")
    state = tmp_path / "mine" / "state.safetensors"
    save_file(damaged(load_file(state)), state)
    (tmp_path / "asked.txt").write_text(space.format(cells[0]) + "\n")
    asked = ["--file", str(tmp_path / "asked.txt")] if by_file else [space.format(cells[0])]
    assert main(["predict", *asked, "--predictor", str(tmp_path / "mine")]) == 2
    told = capsys.readouterr()
    assert told.err.strip().splitlines()[-1].startswith(f"error: {tmp_path / 'mine'}: cannot pred")
    assert "Traceback" not in told.err
