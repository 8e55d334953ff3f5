"""Pruning criteria compared at the same cut, on Fashion-MNIST, over several seeds.

    python analysis/stages_pruning.py --seeds 5
    python analysis/stages_pruning.py --seeds 5 --tune 3 --methods scop taylor l1 random
    python analysis/stages_pruning.py --networks resnet20 --seeds 1 --methods scop taylor
    python analysis/stages_pruning.py --knockoffs --seeds 2 --pool 4 --block 2

For every seed a network is trained; each criterion then prunes that same network to the same
share of its multiply-adds and fine-tunes it with the same recipe on the same batches, so that
seeds are compared in pairs: ``scop ahead`` is the mean of the differences and its standard error.
``scratch`` trains the structure that ``scop`` found from new weights, for as many epochs as the
others have had in all. Latency is that of ONNX Runtime on one thread, of the network before and
after in turn, on images of ``--timed-side``. Everything that is finished is kept in ``--out`` and
not computed again. Writes ``pruning.parquet`` (a row per network, seed, epochs of fine-tuning and
criterion) and ``pruning.md``. ``--knockoffs`` says instead how well the swap condition holds for
each kind of knockoff, to a judge of ``--judged`` steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from kept import keep_options

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.models.network import Network
from nasplatform.runtimes.measure import latencies
from nasplatform.spaces import get_space
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.stages.scop.knockoffs import KnockoffOptions, check_swaps, make_knockoffs
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

METHODS: dict[str, dict[str, Any]] = {
    **{name: {"criterion": name} for name in ("scop", "taylor", "l1", "fpgm", "bn_scale")},
    "random": {"criterion": "random"},
    "scop-shuffled": {"criterion": "scop", "knockoffs": {"kind": "shuffled"}},
    "scop-generator": {"criterion": "scop", "knockoffs": {"kind": "generator"}},
    "scop-any-width": {"criterion": "scop", "round_to": 1},
}
SHOWN = ("scop", "taylor", "l1", "fpgm", "bn_scale", "random", "scratch")
BATCHES = (1, 64)
ROUNDS = 3


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--networks", nargs="*", default=["resnet20", "cell"])
    parser.add_argument("--methods", nargs="*", default=SHOWN, choices=[*METHODS, "scratch"])
    parser.add_argument("--keep", type=float, default=0.45, help="share of the MACs that is left")
    parser.add_argument("--cell", default="[333]1101/110/10/1", help="the quickstart's winner")
    parser.add_argument("--stem", type=int, default=32, help="channels of the cell's stem")
    parser.add_argument("--pool", type=int, default=2, help="1 for 28 x 28, 2 for 14 x 14, ...")
    parser.add_argument("--timed-side", type=int, default=28, help="of the images of the latency")
    parser.add_argument("--train-size", type=int, default=3000)
    parser.add_argument("--test-size", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10, help="of the first training")
    parser.add_argument("--tune", type=int, default=1, help="epochs of fine-tuning")
    parser.add_argument("--knockoffs", action="store_true", help="judge the knockoffs instead")
    parser.add_argument("--block", type=int, default=4, help="side of what is exchanged")
    parser.add_argument("--judged", type=int, default=800, help="steps of the judge")
    return parser.parse_args()


def network_of(name: str, options: argparse.Namespace, task: Task, seed: int) -> Network:
    """Make ResNet-20 or the searched cell, untrained."""
    shape = {"input_shape": task.input_shape, "classes": task.classes}
    if name == "resnet20":
        return Network.named("resnet", seed, depth=20, **shape)
    space = get_space("nasbench101", stem_channels=options.stem, modules_per_stack=1, **shape)
    return Network.of(space, space.parse(options.cell), seed)


def rows(
    options: argparse.Namespace, name: str, task: Task, seed: int, methods: list[str]
) -> Iterator[dict[str, Any]]:
    """Train one network and prune it by every method."""
    folder: Path = options.out / name / f"seed-{seed}"
    train = [("train", {"recipe": {"epochs": options.epochs}})]
    start = network_of(name, options, task, seed)
    base, [first] = run_pipeline(start, task, train, folder / "base", seed)
    timed: dict[str, dict[str, float]] = {}
    cut: dict[str, Any] = {
        "recipe": {"epochs": options.tune, "learning_rate": 0.03},
        "budget": {"metric": "macs", "keep": options.keep},
    }
    for method in methods:
        if method == "scratch":
            stage = [("scop", cut | METHODS["scop"])]
            given, _ = run_pipeline(base, task, stage, folder / f"scop-{options.tune}", seed)
            epochs = {"epochs": options.epochs + options.tune}
            given, stages = given.fresh(seed), [("train", {"recipe": epochs})]
        else:
            given, stages = base, [("scop", cut | METHODS[method])]
        after, [record] = run_pipeline(
            given, task, stages, folder / f"{method}-{options.tune}", seed
        )
        widths = str({key: tuple(x.shape) for key, x in after.module.state_dict().items()})
        if widths not in timed:  # criteria that leave the same widths leave the same speed
            side = options.timed_side
            timed[widths] = speeds(base, after, (task.input_shape[0], side, side))
        sizes = ("macs", "params", "bytes_on_disk")
        yield {
            "network": name,
            "tune": options.tune,
            "method": method,
            "seed": seed,
            "seconds": record["seconds"],
            "before_accuracy": first["after"]["accuracy"],
            "accuracy": record["after"]["accuracy"],
            **{f"{size}_kept": record["after"][size] / first["after"][size] for size in sizes},
            **{f"metric_{key}": value for key, value in record["metrics"].items()},
            **timed[widths],
        }


def speeds(before: Network, after: Network, shape: tuple[int, int, int]) -> dict[str, float]:
    """Time two networks in turn; of each the best of three, in milliseconds per batch."""
    found = torch.tensor(
        [
            [[x.median_ms for x in latencies(n.module, shape, BATCHES)] for n in (before, after)]
            for _ in range(ROUNDS)
        ]
    ).amin(0)
    names = [f"{when}_ms_{batch}" for when in ("before", "after") for batch in BATCHES]
    return dict(zip(names, found.flatten().tolist(), strict=True))


def table(frame: pd.DataFrame) -> str:
    """Return a markdown table: mean over the seeds ± standard deviation; and the paired lead."""
    frame = frame.assign(
        change=100 * (frame.accuracy - frame.before_accuracy),
        as_cut=100 * frame.get("metric_valid_accuracy_cut", float("nan")),
    )
    lines = [
        "| network | tuning | criterion | seeds | before % | as cut % | accuracy % | change | "
        "scop ahead | MACs | parameters | bytes | latency, batch 1 | batch 64 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (network, tune, method), part in frame.groupby(["network", "tune", "method"], sort=False):
        mean, spread = part.mean(numeric_only=True), part.std(numeric_only=True, ddof=1)
        fastest = part.min(numeric_only=True)
        shares = [fastest[f"after_ms_{n}"] / fastest[f"before_ms_{n}"] for n in BATCHES]
        rivals = frame[(frame.network == network) & (frame.tune == tune)]
        cut = "" if pd.isna(mean.as_cut) else f"{mean.as_cut:.1f} ± {spread.as_cut:.1f}"
        lines.append(
            f"| {network} | {tune} | {method} | {len(part)} | {100 * mean.before_accuracy:.2f} | "
            f"{cut} | {100 * mean.accuracy:.2f} ± {100 * spread.accuracy:.2f} | "
            f"{mean.change:+.2f} ± {spread.change:.2f} | "
            f"{lead(rivals, str(method))} | {mean.macs_kept:.3f} | "
            f"{mean.params_kept:.3f} | {mean.bytes_on_disk_kept:.3f} | "
            f"{shares[0]:.2f} | {shares[1]:.2f} |"
        )
    words = (
        "tuning: epochs. as cut: validation accuracy before fine-tuning, running statistics taken "
        "anew. scop ahead: test accuracy of scop less that of the criterion, in points, mean over "
        "the seeds of both ± its standard error. Sizes and latencies as shares of those before; "
        "latencies are the lowest of all seeds, for other load only adds to them."
    )
    return "\n".join([*lines, "", words, ""])


def lead(frame: pd.DataFrame, method: str) -> str:
    """Return by how many points ``scop`` is ahead of a method on the seeds of both."""
    accuracy = frame.pivot_table(index="seed", columns="method", values="accuracy")
    if method == "scop" or "scop" not in accuracy:
        return ""
    mean, error = (100 * (accuracy["scop"] - accuracy[method])).agg(["mean", "sem"])
    return f"{mean:+.2f} ± {error:.2f}"


def knockoffs_table(options: argparse.Namespace, task: Task) -> str:
    """Return a markdown table: swap accuracy and correlation of each kind, mean over the seeds."""
    images = task.train.inputs
    lines = ["| knockoffs | swap accuracy | correlation |", "|---|---|---|"]
    for kind in get_args(KnockoffOptions.model_fields["kind"].annotation):
        chosen = KnockoffOptions(kind=kind, block=options.block, diagnostic_steps=options.judged)
        checks = [
            check_swaps(images, make_knockoffs(images, chosen, seed), chosen, seed + 1)
            for seed in range(options.first_seed, options.first_seed + options.seeds)
        ]
        frame = pd.DataFrame([asdict(check) for check in checks])
        lines.append(f"| {kind} | {frame.accuracy.mean():.3f} | {frame.correlation.mean():.3f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run what is missing and write the tables."""
    options = arguments()
    size = {"pool": options.pool, "train_size": options.train_size, "test_size": options.test_size}
    task = load_task("fashion-mnist", size | {"valid_size": 1000}, "command line")
    if options.knockoffs:
        print(knockoffs_table(options, task))
        return
    path = options.out / "pruning.parquet"
    choosing = ("out", "seeds", "first_seed", "networks", "methods", "tune")
    keep_options(path, options, choosing)
    found = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.networks:
            done = (
                found.query("network == @name and seed == @seed and tune == @options.tune")
                if len(found)
                else found
            )
            known = set(done.get("method", ()))
            wanted = [method for method in options.methods if method not in known]
            for row in rows(options, name, task, seed, wanted) if wanted else ():
                found = pd.concat([found, pd.DataFrame([row])], ignore_index=True)
                words = f"{name} {row['method']} {seed} {row['accuracy']:.4f} {row['seconds']:.0f}s"
                print(words, flush=True)
                with replace_file(path) as temporary:
                    found.to_parquet(temporary)
                write_text(options.out / "pruning.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
