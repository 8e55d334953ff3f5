"""Distillation with unlabelled images: what each part brings, over several seeds, on a CPU.

    python analysis/stages_distill.py --seeds 5
    python analysis/stages_distill.py --seeds 2 --first-seed 100 --tune 0.1 0.3 1 --taps body.0

CIFAR-10 at 16 x 16 pixels: a teacher has 6,000 labels, the student 30 of each class; the
unlabelled images are 6,000 of CIFAR-100, darkened step by step (``--dark``), or the best of
18,000. A seed decides which labels are used, the student's first weights and the batches, so that
methods are compared in pairs. Nothing is augmented, so the teacher is asked once about each image.
All trainings take as many steps on as many images. Every finished one is kept in ``--out`` and
not computed again. Writes ``distill.parquet`` (a row per method and seed) and ``distill.md``.
``--tune`` compares weights, taps and discriminators of the alignment on the validation split;
the tables judge on test images.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext
from nasplatform.stages.distill.sources import labelled_rows, with_labels
from nasplatform.stages.pipeline import make_stage
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.seeding import derive_seed
from nasplatform.training.task import Task

TRAIN, VALID, TEST, POOL, UNLABELLED = 6000, 2000, 8000, 18_000, 6000
BATCH = 64
TEACHER = {"epochs": 30, "augmentation": "flip-crop"}
OTHERWISE = {"first block": {"tap": "body.0"}, "weaker": {"weight": 0.03}}
LABELS_ALONE = ("few labels", "all labels")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/distill"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--labels", type=int, default=30, help="of each class")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the unlabelled images")
    parser.add_argument("--dark", type=float, nargs="*", default=[0.3, 0.6], help="steps of bias")
    parser.add_argument("--width", type=int, default=8, help="of the student's first stage")
    parser.add_argument("--methods", nargs="*", help="only these rows of the table")
    parser.add_argument("--tune", type=float, nargs="*", help="weights of the alignment instead")
    parser.add_argument("--taps", nargs="*", default=[""], help="with --tune; '' for the default")
    parser.add_argument("--hidden", type=int, nargs="*", default=[32], help="with --tune")
    return parser.parse_args()


def data(folder: Path) -> Path:
    """Write the images at 16 x 16 into ``.npz`` files, once; return the one of the task.

    ``pool.npz`` has many unlabelled images, ``random.npz`` the first of them.
    """
    path = folder / "task.npz"
    if path.exists():
        return path
    ten = {"train_size": TRAIN, "valid_size": VALID, "test_size": TEST}
    task = load_task("cifar10", {**ten, **where("cifar10")}, "cifar10")
    wanted = {"train_size": POOL, "valid_size": 500, "test_size": 500}
    other = load_task("cifar100", {**wanted, **where("cifar100")}, "cifar100")
    pool = halved(np.asarray(other.train.inputs.raw))
    write(folder / "pool.npz", {"x_unlabelled": pool})
    write(folder / "random.npz", {"x_unlabelled": pool[:UNLABELLED]})
    arrays: dict[str, Any] = {}
    for part in ("train", "valid", "test"):
        split = getattr(task, part)
        arrays[f"x_{part}"] = halved(np.asarray(split.inputs.raw))
        arrays[f"y_{part}"] = split.labels.numpy()
    write(path, arrays)
    return path


def where(name: str) -> dict[str, str]:
    """Return the option ``path`` of a zip below $NASPLATFORM_DATA, or nothing for what is there."""
    found = sorted(Path(os.environ.get("NASPLATFORM_DATA", ".")).glob(f"{name}_*.zip"))
    return {"path": str(found[0])} if found else {}


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Write a ``.npz`` that appears whole or not at all."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def halved(images: Any) -> Any:
    """Average blocks of 2 x 2 pixels: (n, c, h, w) uint8 -> (n, c, h / 2, w / 2) uint8."""
    n, c, h, w = images.shape
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5)).round().astype(np.uint8)


def methods(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the options of the stage ``distill`` behind each row of the table."""
    random = {"npz": str(options.out / "random.npz")}
    pool = {"npz": str(options.out / "pool.npz")}
    plain = {"unlabelled": random, "alignment": None}
    chosen = {"unlabelled": pool, "alignment": None}
    found: dict[str, dict[str, Any]] = {
        "few labels": {},
        "distilled on them": {"unlabelled": None},
        "+ unlabelled": plain,
        "+ unlabelled, aligned": {**plain, "alignment": {}},
        "all labels": {},
        "hard answers": {**plain, "distillation": {"hard": True}},
        "surest of the pool": {**chosen, "choice": {"by": "confidence", "keep": UNLABELLED}},
        "PU of the pool": {**chosen, "choice": {"by": "pu", "keep": UNLABELLED}},
    }
    for dark in options.dark:
        source = {"unlabelled": {**random, "darken": dark}}
        found[f"{dark:g} darker"] = {**plain, **source}
        found[f"{dark:g} darker, aligned"] = {**source, "alignment": {}}
    for name in ("+ unlabelled", f"{options.dark[-1]:g} darker"):
        for words, how in OTHERWISE.items():
            found[f"{name}, {words}"] = {**found[name], "alignment": how}
    return found


def tuned(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the rows that ``--tune`` compares, without bias and with the strongest."""
    found: dict[str, dict[str, Any]] = {}
    for dark in options.dark:
        source = {"unlabelled": {"npz": str(options.out / "random.npz"), "darken": dark}}
        found[f"{dark:g} darker"] = {**source, "alignment": None}
        for weight, tap, hidden in product(options.tune, options.taps, options.hidden):
            how = {"weight": weight, "tap": tap or None, "hidden": hidden}
            name = f"{dark:g} darker, {weight:g} {tap} {hidden}"
            found[name] = {**source, "alignment": how}
    return found


class Bench:
    """Data, teacher and finished trainings of one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make data and teacher where they are missing."""
        self.options = options
        self.task = load_task("npz", {"path": str(data(options.out))}, "npz")
        self.kept = options.out / f"{options.labels}-{options.epochs}-{options.width}"
        self.teacher = options.out / "teacher"
        if not self.teacher.exists():
            how = {"recipe": TEACHER}
            self.apply("train", how, self.task, 32, 0).save(self.teacher)

    def apply(self, stage: str, how: dict[str, Any], task: Task, width: int, seed: int) -> Network:
        """Take a new ResNet-8 through one stage."""
        shape = {"input_shape": task.input_shape, "classes": task.classes}
        network = Network.named("resnet", seed, depth=8, width=width, **shape)
        answers = self.options.out.absolute() / "answers"
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
        if alone and method != "all labels":
            rows = labelled_rows(task, self.options.labels, derive_seed(seed, 1))
            task = with_labels(task, np.tile(rows, UNLABELLED // len(rows)))
        if method in LABELS_ALONE:
            return self.apply("train", {"recipe": recipe}, task, width, seed)
        common = {"recipe": recipe, "teacher": {"network": str(self.teacher)}, "start": "scratch"}
        labels = {} if alone else {"labels": self.options.labels}
        return self.apply("distill", {**common, **labels, **how}, task, width, seed)


def table(frame: pd.DataFrame) -> str:
    """Return a markdown table: mean over the seeds ± standard error, and paired differences."""
    accuracy = 100 * frame.pivot_table(index="seed", columns="method", values="accuracy")
    accuracy = accuracy[list(dict.fromkeys(frame["method"]))]
    seconds = frame.groupby("method")["seconds"].median()
    ends = accuracy.get("few labels"), accuracy.get("all labels")
    lines = [
        "| student | seeds | test accuracy % | ahead of its pair | gap closed | s |",
        "|---|---|---|---|---|---|",
    ]
    for method in map(str, accuracy):
        mean, error = accuracy[method].agg(["mean", "sem"])
        pair, closed = partner(method), ""
        lead = ""
        if pair in accuracy and pair != method:
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


def partner(method: str) -> str:
    """Return the row that differs in one thing."""
    known = {"distilled on them": "few labels", "+ unlabelled": "distilled on them"}
    if method in LABELS_ALONE:
        return method
    if ", " in method:  # an alignment
        return method.partition(", ")[0]
    return known.get(method, "+ unlabelled")


def main() -> None:
    """Train what is missing; write the table."""
    options = arguments()
    bench = Bench(options)
    wanted = methods(options) if options.tune is None else tuned(options)
    wanted = {name: how for name, how in wanted.items() if name in (options.methods or wanted)}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows = [bench.row(name, how, seed) for seed in seeds for name, how in wanted.items()]
    frame = pd.DataFrame(rows)
    if options.tune is not None:
        print(frame.groupby("method", sort=False)["valid_accuracy"].agg(["mean", "sem"]))
        return
    with replace_file(options.out / "distill.parquet") as temporary:
        frame.to_parquet(temporary)
    text = table(frame)
    write_text(options.out / "distill.md", text)
    print(text)


if __name__ == "__main__":
    main()
