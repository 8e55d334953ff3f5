"""Complaints about options name keys that stand in the file, or could."""

from pathlib import Path

import pytest
import yaml

from nasplatform.errors import ConfigError
from nasplatform.runs.driver import compress


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (
            {"name": "binarize", "estimator": {"name": "fourier", "omega": 0}},
            r"c\.yaml:\d+: stages\.0\.estimator\.omega: .*greater than 0, got 0$",
        ),
        (
            {"name": "binarize", "estimator": {"name": "fourier", "terms": [18, 9]}},
            r"c\.yaml:\d+: stages\.0\.estimator: terms must be two numbers.*'terms': \[18, 9\]\}$",
        ),
        (
            {"name": "binarize", "estimator": {"name": "fourier", "omaga": 1}},
            r"c\.yaml:\d+: stages\.0\.estimator\.omaga: unknown key 'omaga'",
        ),
        (
            {"name": "binarize", "estimator": {"name": "recu", "tau": [0.99, 0.85]}},
            r"c\.yaml:\d+: stages\.0\.estimator: tau must be two shares .* the first not above",
        ),
        (
            {"name": "distill", "labels": -1, "unlabelled": {"dataset": "digits"}},
            r"c\.yaml:\d+: stages\.0\.labels: ",
        ),
        (
            {"name": "train", "recipe": {"optimizer": {"name": "sgd", "momentum": "much"}}},
            r"c\.yaml:\d+: stages\.0\.recipe\.optimizer\.momentum: .*got 'much'$",
        ),
        (
            {"name": "train", "recipe": {"schedule": {"name": "step", "milestones": ["a"]}}},
            r"c\.yaml:\d+: stages\.0\.recipe\.schedule\.milestones\.0: .*got 'a'$",
        ),
    ],
)
def test_options_within_unions_are_called_as_they_are_written(
    tmp_path: Path, stage: dict[str, object], words: str
) -> None:
    file = tmp_path / "c.yaml"
    network = {"name": "resnet", "depth": 8, "width": 4}
    told = {"name": "c", "task": {"dataset": "digits"}, "network": network, "stages": [stage]}
    file.write_text(yaml.safe_dump(told))
    with pytest.raises(ConfigError, match=words):
        compress(file, tmp_path / "run")
