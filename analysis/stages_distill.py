"""Distillation with unlabelled images: what each part brings, over several seeds, on a CPU.

    python analysis/stages_distill.py --seeds 5
    python analysis/stages_distill.py --pair fashion-mnist --labels 10 --seeds 5
    python analysis/stages_distill.py --seeds 2 --first-seed 100 --tune 0.1 0.3 1 --taps body.0

Pairs of sources, made worse step by step (``unlabelled_sources.py``): CIFAR-10 at 16 x 16 pixels
beside CIFAR-100, a weak bias, darkened; Fashion-MNIST at 14 x 14 beside MNIST, a strong one, mixed
and darkened. A teacher has 6,000 labels, the student a few of each class; unlabelled are 6,000
images, or the best of 18,000. A seed decides which labels are used, the student's first weights and
the batches, so that methods are compared in pairs. Nothing is augmented, so the teacher is asked
once about each image. All trainings take as many steps on as many images. Every finished one is
kept in ``--out`` and not computed again. Writes ``distill.parquet`` (a row per method and seed) and
``distill.md``. ``--tune`` compares weights, taps and discriminators of the alignment on the
validation split; the tables judge on test images.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from kept import keep_options
from unlabelled_sources import PAIRS, UNLABELLED

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext
from nasplatform.stages.distill.sources import labelled_rows, with_labels
from nasplatform.stages.pipeline import make_stage
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.seeding import derive_seed
from nasplatform.training.task import Task

BATCH = 64
TEACHER = {"augmentation": "flip-crop"}
OTHERWISE = {"first block": {"tap": "body.0"}, "weaker": {"weight": 0.03}}
FEW, DISTILLED, ALL = "few labels", "distilled on them", "all labels"


@dataclass(frozen=True)
class Method:
    """A row of the table: options of the stage ``distill``, and the row that it is paired with."""

    options: dict[str, Any]
    pair: str | None


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/distill"))
    parser.add_argument("--pair", choices=list(PAIRS), default="cifar10")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--labels", type=int, default=30, help="of each class")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the unlabelled images")
    parser.add_argument("--width", type=int, default=8, help="of the student's first stage")
    parser.add_argument("--teacher-epochs", type=int, default=30)
    parser.add_argument("--teacher-width", type=int, default=32)
    parser.add_argument("--methods", nargs="*", help="only these rows of the table")
    parser.add_argument("--tune", type=float, nargs="*", help="weights of the alignment instead")
    parser.add_argument("--taps", nargs="*", default=[""], help="with --tune; '' for the default")
    parser.add_argument("--hidden", type=int, nargs="*", default=[32], help="with --tune")
    return parser.parse_args()


def methods(sources: dict[str, dict[str, Any]], pool: dict[str, Any]) -> dict[str, Method]:
    """Return the rows of the table.

    sources: unlabelled images by name, the nearest to the task first.
    pool:    more of them, of which the source called ``+ random`` or else the first is a sample.
    """
    first, *_, last = sources
    sample = "+ random" if "+ random" in sources else first
    found = {FEW: Method({}, None), DISTILLED: Method({"unlabelled": None}, FEW)}
    for name, source in sources.items():
        plain = {"unlabelled": source, "alignment": None}
        found[name] = Method(plain, DISTILLED if name == first else first)
        found[f"{name}, aligned"] = Method({**plain, "alignment": {}}, name)
    chosen = {"unlabelled": pool, "alignment": None}
    for how, words in (("confidence", "surest of the pool"), ("pu", "PU of the pool")):
        choice = {"choice": {"by": how, "keep": UNLABELLED}}
        found[words] = Method({**chosen, **choice}, sample)
    hard = {**found[first].options, "distillation": {"hard": True}}
    found |= {"hard answers": Method(hard, first), ALL: Method({}, None)}
    for name in (first, last):
        for words, alignment in OTHERWISE.items():
            options = {**found[name].options, "alignment": alignment}
            found[f"{name}, {words}"] = Method(options, name)
    return found


def tuned(sources: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Method]:
    """Return the rows that ``--tune`` compares, from every source."""
    found: dict[str, Method] = {}
    for name, source in sources.items():
        found[name] = Method({"unlabelled": source, "alignment": None}, None)
        for weight, tap, hidden in product(options.tune, options.taps, options.hidden):
            how = {"weight": weight, "tap": tap or None, "hidden": hidden}
            row = Method({"unlabelled": source, "alignment": how}, name)
            found[f"{name}, {weight:g} {tap} {hidden}"] = row
    return found


class Bench:
    """Data, teacher and finished trainings of one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make data and teacher where they are missing."""
        self.options, self.home = options, options.out / options.pair
        path, self.sources, self.pool = PAIRS[options.pair](self.home)
        self.task = load_task("npz", {"path": str(path)}, "npz")
        self.kept = self.home / f"{options.labels}-{options.epochs}-{options.width}"
        self.teacher = self.home / "teacher"
        others = vars(options).keys() - {"teacher_epochs", "teacher_width"}
        keep_options(self.teacher, options, others)
        if not self.teacher.exists():
            how = {"recipe": {**TEACHER, "epochs": options.teacher_epochs}}
            self.apply("train", how, self.task, options.teacher_width, 0).save(self.teacher)

    def apply(self, stage: str, how: dict[str, Any], task: Task, width: int, seed: int) -> Network:
        """Take a new ResNet-8 through one stage."""
        shape = {"input_shape": task.input_shape, "classes": task.classes}
        network = Network.named("resnet", seed, depth=8, width=width, **shape)
        answers = self.home.absolute() / "answers"
        answers.mkdir(exist_ok=True)
        with TemporaryDirectory() as folder:
            (Path(folder) / "scratch").symlink_to(answers)  # the teacher is asked once for all
            context = StageContext(Path(folder), seed)
            return make_stage(stage, how, stage).apply(network, task, context).network

    def row(self, method: str, how: dict[str, Any], seed: int) -> dict[str, Any]:
        """Train one student, or read what it came to."""
        path = self.kept / f"{method.replace(' ', '-')}-{seed}.json"
        if not path.exists():
            start = time.perf_counter()
            module = self.student(method, how, seed).module
            found = {
                "method": method,
                "seed": seed,
                "accuracy": evaluate(module, self.task, "test"),
                "valid_accuracy": evaluate(module, self.task, "valid"),
                "seconds": time.perf_counter() - start,
            }
            write_text(path, json.dumps(found))
            print(found, flush=True)
        known: dict[str, Any] = json.loads(path.read_text())
        return known

    def student(self, method: str, how: dict[str, Any], seed: int) -> Network:
        """Train a student, in equally many steps on equally many images for every method."""
        task, epochs, width = self.task, self.options.epochs, self.options.width
        alone = how.get("unlabelled") is None  # one stream, of twice the batch
        recipe = {
            "batch_size": 2 * BATCH if alone else BATCH,
            "epochs": 2 * epochs if alone else epochs,
        }
        if alone and method != ALL:
            rows = labelled_rows(task, self.options.labels, derive_seed(seed, 1))
            task = with_labels(task, np.tile(rows, UNLABELLED // len(rows)))
        if method in (FEW, ALL):
            return self.apply("train", {"recipe": recipe}, task, width, seed)
        common = {"recipe": recipe, "teacher": {"network": str(self.teacher)}, "start": "scratch"}
        labels = {} if alone else {"labels": self.options.labels}
        return self.apply("distill", {**common, **labels, **how}, task, width, seed)


def table(frame: pd.DataFrame, rows: dict[str, Method]) -> str:
    """Return a markdown table: mean over the seeds ± standard error, and paired differences."""
    accuracy = 100 * frame.pivot_table(index="seed", columns="method", values="accuracy")
    accuracy = accuracy[list(dict.fromkeys(frame["method"]))]
    seconds = frame.groupby("method")["seconds"].median()
    ends = accuracy.get(FEW), accuracy.get(ALL)
    lines = [
        "| student | seeds | test accuracy % | ahead of its pair | gap closed | s |",
        "|---|---|---|---|---|---|",
    ]
    for method in map(str, accuracy):
        mean, error = accuracy[method].agg(["mean", "sem"])
        pair, closed, lead = rows[method].pair, "", ""
        if pair in accuracy:
            ahead, spread = (accuracy[method] - accuracy[pair]).agg(["mean", "sem"])
            lead = f"{ahead:+.2f} ± {spread:.2f} ({pair})"
        if ends[0] is not None and ends[1] is not None:
            share = (accuracy[method] - ends[0]).mean() / (ends[1] - ends[0]).mean()
            closed = f"{100 * share:.0f} %"
        lines.append(
            f"| {method} | {accuracy[method].count()} | {mean:.2f} ± {error:.2f} | {lead} | "
            f"{closed} | {seconds[method]:.0f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Train what is missing; write the table."""
    options = arguments()
    bench = Bench(options)
    if options.tune is None:
        wanted = methods(bench.sources, bench.pool)
    else:
        wanted = tuned(bench.sources, options)
    wanted = {name: how for name, how in wanted.items() if name in (options.methods or wanted)}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows = [bench.row(name, how.options, seed) for seed in seeds for name, how in wanted.items()]
    frame = pd.DataFrame(rows)
    if options.tune is not None:
        print(frame.groupby("method", sort=False)["valid_accuracy"].agg(["mean", "sem"]))
        return
    with replace_file(bench.home / "distill.parquet") as temporary:
        frame.to_parquet(temporary)
    text = table(frame, wanted)
    write_text(bench.home / "distill.md", text)
    print(text)


if __name__ == "__main__":
    main()
