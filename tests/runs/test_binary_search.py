"""The search file that ends as a network of bits."""

from pathlib import Path

import pytest
import yaml

from nasplatform.errors import NasplatformError
from nasplatform.models.binary import binary_layers
from nasplatform.runs.driver import compress, run
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate

FILE = Path(__file__).parents[2] / "searches" / "binary.yaml"


def test_binary_search_file_ends_as_bits(tmp_path: Path) -> None:
    quick = {
        "search.budget": 8,
        "search.sampler": {"name": "random"},
        "stages.0.recipe.epochs": 1,
        "stages.1.recipe.epochs": 2,
        "runtime": "torch",
    }
    done = run(FILE, tmp_path / "run", quick)
    network, stages = done.network(), done.stages
    assert stages["stage"].tolist() == ["disout", "binarize"]
    assert len(binary_layers(network.module)) == stages["metric_binary_layers"][1] > 0
    assert stages["after_bytes_on_disk"][1] < stages["before_bytes_on_disk"][1] / 2
    assert stages["metric_bits_per_weight"][1] < 16
    task = load_task("digits", {}, "test")
    accuracy = evaluate(network.module, task, "test")
    assert accuracy == pytest.approx(stages["after_accuracy"][1])


@pytest.mark.parametrize("after", ["train", "scop", "disout", "binarize"])
def test_a_stage_that_needs_weights_is_refused_before_bits_are_paid_for(
    tmp_path: Path, after: str
) -> None:
    file = tmp_path / "c.yaml"
    told = {
        "name": "c",
        "task": {"dataset": "digits"},
        "network": {"name": "resnet", "depth": 8, "width": 4},
        "stages": [{"name": "binarize"}, {"name": after}],
    }
    file.write_text(yaml.safe_dump(told))
    with pytest.raises(NasplatformError, match=rf"'{after}' needs float weights, but 'binarize'"):
        compress(file, tmp_path / "run")
    assert not (tmp_path / "run").exists()
