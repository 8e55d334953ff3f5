"""A table of one's own: really trained towers as a CSV file, for ``nasplatform data import``.

python my_table.py towers.csv 200
nasplatform data import towers.csv --space towers --option classes=4 --score accuracy
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.trained import TrainedEvaluator, TrainedOptions
from nasplatform.spaces import get_space
from nasplatform.training.datasets import load_task


def write_table(file: Path, count: int, epochs: int = 3) -> None:
    """Train towers on the stripes and write architecture, accuracy and the seconds it took."""
    task = load_task("stripes", {}, "stripes")
    space = get_space("towers", input_shape=task.input_shape, classes=task.classes)
    options = TrainedOptions.model_validate({"recipe": {"epochs": epochs, "batch_size": 50}})
    evaluator = TrainedEvaluator.from_options(options, space, EvaluationContext(task=task))
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["architecture", "accuracy", "seconds"])
        for tower in space.sample(count, np.random.default_rng(0)):
            found = evaluator.evaluate(tower, epochs, seed=0)
            writer.writerow([space.format(tower), found.score, f"{found.seconds:.3f}"])


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), int(sys.argv[2]))
