"""Ways to pass a gradient through the sign, compared on the same networks and batches.

    python analysis/stages_binarize.py --path cifar10.zip --test-size 5000 --seeds 5
    python analysis/stages_binarize.py --dataset fashion-mnist --pool 2 --test-size 10000 \
        --out runs/binarize-fashion                           # a third of a minute a training
    python analysis/stages_binarize.py $CIFAR --no-shortcuts --methods fda-noise fda dorefa \
        --out runs/resnet20-fda                               # these three: see below
    python analysis/stages_binarize.py $CIFAR --epochs 600 --batch-size 256 --weight-decay 5e-4 \
        --methods recu --out runs/resnet20-recu
    python analysis/stages_binarize.py $CIFAR --network vgg-small --no-shortcuts \
        --methods fda-noise --out runs/vgg-small

The last three need a GPU, and of the shell ``CIFAR="--depth 20 --train-size 45000 --valid-size
5000 --test-size 10000 --epochs 400 --batch-size 128 --learning-rate 0.1 --augmentation flip-crop
--device cuda"``; what is given later on a line counts.

For every seed each method trains the same network from the same first weights by the same recipe,
so that seeds are compared in pairs. Accuracy is that of the bits that are handed on. What is
finished is kept in ``--out`` and not computed again; a training that was killed goes on. Writes
``binarize.parquet`` (a row per method and seed) and ``binarize.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from kept import keep_options

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext
from nasplatform.stages.pipeline import make_stage
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.task import Task

METHODS: dict[str, dict[str, Any]] = {
    "float": {},
    "straight-through": {"estimator": {"name": "straight-through"}},
    "dorefa": {"estimator": {"name": "dorefa"}},
    "approx-sign": {"estimator": {"name": "approx-sign"}},
    "reste": {"estimator": {"name": "reste"}},
    "recu": {"estimator": {"name": "recu"}},
    "fda": {"estimator": {"name": "fourier"}},
    "fda-noise": {"estimator": {"name": "fourier"}, "noise": {}},
    "fda-0.3": {"estimator": {"name": "fourier", "omega": 0.3}},
}
SHOWN = ("float", "straight-through", "dorefa", "reste", "recu", "fda", "fda-noise")
PAIRS: tuple[tuple[str, str], ...] = (
    ("fda", "straight-through"),
    ("fda", "dorefa"),
    ("fda", "approx-sign"),
    ("fda", "reste"),
    ("fda", "recu"),
    ("fda-noise", "fda"),
    ("fda-noise", "straight-through"),
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/binarize"))
    parser.add_argument("--dataset", default="cifar10", choices=("cifar10", "fashion-mnist"))
    parser.add_argument("--path", type=Path, help="of CIFAR-10; unless given, as fetched")
    parser.add_argument("--pool", type=int, default=1, help="of Fashion-MNIST: 2 for 14 x 14")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=SHOWN, choices=list(METHODS))
    parser.add_argument("--network", default="resnet", choices=("resnet", "vgg-small"))
    parser.add_argument("--depth", type=int, default=8, help="of the ResNet")
    parser.add_argument("--width", type=int, default=16, help="of its first stage")
    parser.add_argument("--no-shortcuts", action="store_true", help="around single convolutions")
    parser.add_argument("--train-size", type=int, default=5000)
    parser.add_argument("--valid-size", type=int, default=200)
    parser.add_argument("--test-size", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--augmentation", default="none", choices=("none", "flip-crop"))
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def task_of(options: argparse.Namespace) -> Task:
    """Load the images."""
    names = ("train_size", "valid_size", "test_size")
    chosen = {name: getattr(options, name) for name in names}
    if options.dataset == "fashion-mnist":
        chosen["pool"] = options.pool
    elif options.path is not None:
        chosen["path"] = str(options.path)
    return load_task(options.dataset, chosen, "command line")


def network_of(options: argparse.Namespace, task: Task, seed: int) -> Network:
    """Make the network, untrained."""
    shape = {"input_shape": task.input_shape, "classes": task.classes}
    if options.network == "resnet":
        return Network.named("resnet", seed, depth=options.depth, width=options.width, **shape)
    return Network.named(options.network, seed, **shape)


def trained(options: argparse.Namespace, task: Task, method: str, seed: int) -> dict[str, Any]:
    """Train one network by one method and return its row."""
    folder: Path = options.out / f"{method}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "optimizer": {"name": "sgd", "nesterov": False},
        "weight_decay": options.weight_decay,
        "warmup": 0.0,
        "augmentation": options.augmentation,
    }
    how = METHODS[method]
    around = {"start": "scratch", "shortcuts": not options.no_shortcuts}
    stage = (
        make_stage("binarize", {"recipe": recipe, **around, **how}, method)
        if how
        else make_stage("train", {"recipe": recipe}, method)
    )
    began = time.process_time()
    context = StageContext(folder, seed, options.device)
    result = stage.apply(network_of(options, task, seed), task, context)
    return {
        "method": method,
        "seed": seed,
        "accuracy": evaluate(result.network.module, task, "test"),
        "cpu_seconds": time.process_time() - began,
        **{f"metric_{name}": value for name, value in result.metrics.items()},
    }


def table(frame: pd.DataFrame) -> str:
    """Return two markdown tables: a row per method, and the paired differences."""
    lines = ["| method | seeds | accuracy % | training loss | CPU s |", "|---|---|---|---|---|"]
    for method in METHODS:
        part = frame[frame.method == method]
        if not len(part):
            continue
        accuracy, error = summary(100 * part.accuracy)
        loss, seconds = part.metric_train_loss.mean(), part.cpu_seconds.mean()
        lines.append(
            f"| {method} | {len(part)} | {accuracy:.2f} ± {error:.2f} | {loss:.3f} | "
            f"{seconds:.0f} |"
        )
    lines += ["", "| in pairs | seeds | points ahead | seeds ahead |", "|---|---|---|---|"]
    accuracies = 100 * frame.pivot_table(index="seed", columns="method", values="accuracy")
    for first, second in PAIRS:
        if {first, second} <= set(accuracies):
            apart = (accuracies[first] - accuracies[second]).dropna()
            (mean, error), ahead = summary(apart), int((apart > 0).sum())
            lines.append(
                f"| {first} less {second} | {len(apart)} | {mean:+.2f} ± {error:.2f} | "
                f"{ahead} of {len(apart)} |"
            )
    return "\n".join([*lines, "", "Means over seeds ± standard errors, on the test images.", ""])


def summary(values: pd.Series) -> tuple[float, float]:
    """Return the mean and its standard error."""
    numbers = values.to_numpy(float)
    return float(numbers.mean()), float(numbers.std(ddof=1) / len(numbers) ** 0.5)


def main() -> None:
    """Train what is missing and write the tables."""
    options = arguments()
    torch.set_num_threads(1)
    task = task_of(options)
    kept = options.out / "binarize.parquet"
    choosing = ("out", "path", "seeds", "first_seed", "methods")
    keep_options(kept, options, choosing)
    found = pd.read_parquet(kept) if kept.exists() else pd.DataFrame({"method": [], "seed": []})
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for method in options.methods:
            if len(found.query("method == @method and seed == @seed")):
                continue
            row = trained(options, task, method, seed)
            found = pd.concat([found, pd.DataFrame([row])], ignore_index=True)
            words = f"{method} {seed} {row['accuracy']:.4f} {row['cpu_seconds']:.0f}s"
            print(words, flush=True)
            with replace_file(kept) as temporary:
                found.to_parquet(temporary)
            write_text(options.out / "binarize.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
