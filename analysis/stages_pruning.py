"""Pruning criteria compared at the same cut, on Fashion-MNIST, over several seeds.

    python analysis/stages_pruning.py --seeds 3
    python analysis/stages_pruning.py --seeds 1 --pool 4 --train-size 2000 --epochs 4 --tune 2

For every seed one NAS-Bench-101 network is trained; each criterion then prunes that same network
to the same share of its multiply-adds, the same share of every layer, and fine-tunes it with the
same recipe. ``scratch`` trains the structure that ``l1`` found from new weights, for as many
epochs as the others have had in all. Latency is that of ONNX Runtime on one thread. Everything
that is finished is kept in ``--out`` and not computed again. Writes ``pruning.parquet`` (a row
per seed and criterion), ``pruning.md`` (means and standard deviations) beside the runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nasplatform.deploy.network import Network
from nasplatform.deploy.onnx import export_onnx, onnx_latency
from nasplatform.files import replace_file, write_text
from nasplatform.spaces import get_space
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

SCOP: dict[str, dict[str, Any]] = {
    f"scop-{kind}": {"criterion": "scop", "knockoffs": {"kind": kind}}
    for kind in ("generator", "gaussian", "shuffled")
}
METHODS: dict[str, dict[str, Any]] = SCOP | {
    name: {"criterion": name} for name in ("random", "l1", "bn_scale", "fpgm", "taylor")
}
BATCHES = (1, 64)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=[*METHODS, "scratch"])
    parser.add_argument("--keep", type=float, default=0.45, help="share of the MACs that is left")
    parser.add_argument("--cell", default="[333]1010/110/01/1")
    parser.add_argument("--stem", type=int, default=16, help="channels of the stem")
    parser.add_argument("--pool", type=int, default=2, help="1 for 28 x 28, 2 for 14 x 14, ...")
    parser.add_argument("--train-size", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10, help="of the first training")
    parser.add_argument("--tune", type=int, default=5, help="epochs of fine-tuning")
    parser.add_argument("--control", type=int, default=5, help="epochs of the knockoff scales")
    return parser.parse_args()


def rows(options: argparse.Namespace, task: Task, seed: int) -> Iterator[dict[str, Any]]:
    """Train one network and prune it by every method."""
    space = get_space(
        "nasbench101",
        stem_channels=options.stem,
        modules_per_stack=1,
        input_shape=task.input_shape,
        classes=task.classes,
    )
    start = Network.of(space, space.parse(options.cell), seed)
    folder: Path = options.out / f"seed-{seed}"
    recipe = {"epochs": options.epochs}
    base, _ = run_pipeline(start, task, [("train", {"recipe": recipe})], folder / "base", seed)
    cut: dict[str, Any] = {
        "recipe": {"epochs": options.tune, "learning_rate": 0.02},
        "budget": {"metric": "macs", "keep": options.keep},
        "control": {"epochs": options.control},
    }
    speed = speeds(base, task, folder / "base")
    for method in options.methods:
        if method == "scratch":
            l1 = [("scop", cut | METHODS["l1"])]
            given, _ = run_pipeline(base, task, l1, folder / "l1", seed)
            epochs = {"epochs": options.epochs + options.tune}
            given, stages = given.fresh(seed), [("train", {"recipe": epochs})]
        else:
            given, stages = base, [("scop", cut | METHODS[method])]
        after, records = run_pipeline(given, task, stages, folder / method, seed)
        yield {
            "method": method,
            "seed": seed,
            "seconds": records[0]["seconds"],
            **measured(base, after, records[0], folder),
            **{f"before_{name}": value for name, value in speed.items()},
            **speeds(after, task, folder / method),
        }


def measured(base: Network, after: Network, record: Any, folder: Path) -> dict[str, float]:
    """Return accuracy and size before (of the trained network) and after."""
    first = pd.read_json(folder / "base" / "0-train" / "record.json", typ="series")["after"]
    last = record["after"]
    return {
        "before_accuracy": first["accuracy"],
        "accuracy": last["accuracy"],
        "valid_accuracy_cut": record["metrics"].get("valid_accuracy_cut", float("nan")),
        **{
            f"{name}_kept": last[name] / first[name]
            for name in ("macs", "parameters", "bytes_on_disk")
        },
        "swap_accuracy": record["metrics"].get("swap_accuracy", float("nan")),
    }


def speeds(network: Network, task: Task, folder: Path) -> dict[str, float]:
    """Export a network and time it, in milliseconds per batch."""
    path = folder / "network.onnx"
    export_onnx(network, task, path)
    return {f"onnx_ms_{batch}": onnx_latency(path, batch)[0] for batch in BATCHES}


def table(frame: pd.DataFrame) -> str:
    """Return a markdown table: means over the seeds, standard deviation of the accuracy."""
    frame = frame.assign(
        drop=100 * (frame.accuracy - frame.before_accuracy),
        speed_1=frame.before_onnx_ms_1 / frame.onnx_ms_1,
        speed_64=frame.before_onnx_ms_64 / frame.onnx_ms_64,
    )
    lines = [
        "| criterion | test accuracy % | change | before fine-tuning (valid) % | MACs kept | "
        "parameters kept | speed-up, batch 1 | batch 64 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, part in frame.groupby("method", sort=False):
        mean, spread = part.mean(numeric_only=True), 100 * part.accuracy.std(ddof=1)
        lines.append(
            f"| {method} | {100 * mean.accuracy:.2f} ± {spread:.2f} | {mean['drop']:+.2f} | "
            f"{100 * mean.valid_accuracy_cut:.1f} | {mean.macs_kept:.3f} | "
            f"{mean.parameters_kept:.3f} | {mean.speed_1:.2f}x | {mean.speed_64:.2f}x |"
        )
    before = (
        f"Before pruning {100 * frame.before_accuracy.mean():.2f} %, {frame.seed.nunique()} seeds."
    )
    return "\n".join([*lines, "", before, ""])


def main() -> None:
    """Run what is missing and write the tables."""
    options = arguments()
    size = {"pool": options.pool, "train_size": options.train_size, "test_size": 10_000}
    task = load_task("fashion-mnist", size | {"valid_size": 5000}, "command line")
    found: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for row in rows(options, task, seed):
            found.append(row)
            print(
                row["method"], seed, f"{row['accuracy']:.4f}", f"{row['seconds']:.0f} s", flush=True
            )
            with replace_file(options.out / "pruning.parquet") as temporary:
                pd.DataFrame(found).to_parquet(temporary)
            write_text(options.out / "pruning.md", table(pd.DataFrame(found)))
    print(table(pd.DataFrame(found)))


if __name__ == "__main__":
    main()
