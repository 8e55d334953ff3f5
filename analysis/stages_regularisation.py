"""Disout and its neighbours on the same places, with the same recipe, over several seeds.

    python analysis/stages_regularisation.py
    python analysis/stages_regularisation.py --layers linear --out runs/regularisation-linear

By default a small ResNet is trained on 1,000 images of Fashion-MNIST, so few that a plain training
over-fits. Every method is first trained with each of its settings (``SETTINGS``, as many for each)
on the seeds of ``--tune-seeds``; the setting of the best mean validation accuracy is then used on
the seeds of ``--seeds``, where test accuracy counts. With ``--papers`` nothing is tuned and the
settings are those of the papers. With ``--layers linear`` the noise is on the vectors between
the linear layers of a conventional network instead. A seed decides which images are trained on,
the first weights and all draws, and is the same for all methods, so that they are compared in
pairs. Every finished training is a row of ``--out``/trainings.csv and is not trained again;
``--limit`` ends after so many. Writes ``regularisation.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kept import keep_options
from torch import nn

from nasplatform.atomic_io import write_text
from nasplatform.models.network import Network
from nasplatform.stages.base import StageContext
from nasplatform.stages.pipeline import make_stage
from nasplatform.training.datasets import load_task
from nasplatform.training.evaluation import evaluate
from nasplatform.training.image_store import Images
from nasplatform.training.task import Split, Task

PROBS = [{"drop_prob": prob} for prob in (0.05, 0.1, 0.2, 0.3)]
BLOCKS = [{"block": block, "prob": prob} for block in (2, 3) for prob in (0.1, 0.25)]
POSITIONS = ("after-activation", "before-normalisation")
SETTINGS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "plain": ("train", [{}]),
    "dropout": ("dropout", PROBS),
    "dropout2d": ("dropout2d", PROBS),
    **{
        f"{stage}, {position}": (
            stage,
            [{"block": s["block"], prob: s["prob"], "position": position} for s in BLOCKS],
        )
        for stage, prob in (("dropblock", "drop_prob"), ("disout", "dist_prob"))
        for position in POSITIONS
    },
}
"""Method: the stage, and the settings that are tried."""
LINEAR: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "plain": ("train", [{}]),
    "dropout": ("dropout", [{"drop_prob": prob} for prob in (0.1, 0.2, 0.3, 0.5)]),
    "disout": (
        "disout",
        [{"dist_prob": prob, "alpha": alpha} for prob in (0.1, 0.3) for alpha in (1, 5)],
    ),
}
"""The same between linear layers, where there are no blocks."""
PAPERS: dict[str, dict[str, Any]] = {
    "dropout": {"drop_prob": 0.1},
    "dropout2d": {"drop_prob": 0.1},
    **{f"dropblock, {place}": {"drop_prob": 0.1, "block": 7} for place in POSITIONS},
    **{f"disout, {place}": {"dist_prob": 0.09, "block": 6, "alpha": 5} for place in POSITIONS},
}
DATA = {"pool": 2, "train_size": 1000, "valid_size": 4000}
NETWORK = {"depth": 14, "width": 8}
RECIPE = {"epochs": 30}
WATCHED = 100
"""Validation images that a training looks at after each epoch."""
ROW = ["part", "method", "setting", "seed", "valid", "test", "train_loss", "cpu_seconds", "touched"]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/regularisation"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--tune-seeds", type=int, nargs="*", default=[100, 101, 102])
    parser.add_argument("--layers", choices=["maps", "linear"], default="maps")
    parser.add_argument("--methods", nargs="*", help="only these rows of the table")
    parser.add_argument("--papers", action="store_true", help="use the settings of the papers")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--data", type=json.loads, default=DATA, help="its options, JSON")
    parser.add_argument("--network", type=json.loads, default=NETWORK, help="of resnet, JSON")
    parser.add_argument("--recipe", type=json.loads, default=RECIPE, help="JSON")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=10_000, help="trainings of this call")
    options = parser.parse_args()
    options.settings = SETTINGS if options.layers == "maps" else LINEAR
    options.methods = options.methods or list(options.settings)
    return options


def conventional(side: int = 14, classes: int = 10) -> nn.Module:
    """Two layers of 5 x 5, each halved, then two hidden linear layers, as networks were in 2014.

    That of the paper could not be read; of its kind, it has most of its weights in linear layers.
    """
    places = (side // 4) ** 2
    maps = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    maps += [nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    hidden = [nn.Linear(32 * places, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*maps, nn.Flatten(), *hidden, nn.Linear(256, classes))


def main() -> None:
    """Train what is missing and write the tables."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "trainings.csv"
    choosing = ("out", "seeds", "methods", "limit", "settings")
    keep_options(path, options, choosing)
    frame = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=ROW)
    for _ in range(options.limit):
        job = next(missing(options, frame), None)
        if job is None:
            break
        row = trained(options, *job)
        frame = pd.DataFrame([*frame.to_dict("records"), row])
        write_text(path, frame.to_csv(index=False))
        print(" ".join(str(row[key]) for key in ROW), flush=True)
    text = tables(options, frame)
    write_text(options.out / "regularisation.md", text)
    print(text)


def missing(options: argparse.Namespace, frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Yield (part, method, setting, seed) of what was not trained yet, tuning first."""
    known = set(frame[["part", "method", "setting", "seed"]].itertuples(index=False, name=None))
    for seed in () if options.papers else options.tune_seeds:
        for method in options.methods:
            for setting in options.settings[method][1]:
                job = ("tune", method, json.dumps(setting), seed)
                if len(options.settings[method][1]) > 1 and job not in known:
                    yield job
    for seed in options.seeds:
        for method in options.methods:
            job = ("final", method, chosen(options, frame, method), seed)
            if job not in known:
                yield job


def chosen(options: argparse.Namespace, frame: pd.DataFrame, method: str) -> str:
    """Return the papers' setting of a method, or that of the best mean validation accuracy."""
    settings = options.settings[method][1]
    if options.papers and method in PAPERS:
        where = {key: value for key, value in settings[0].items() if key == "position"}
        return json.dumps(PAPERS[method] | where)
    if len(settings) == 1:
        return json.dumps(settings[0])
    tuned = frame[(frame.part == "tune") & (frame.method == method)]
    return str(tuned.groupby("setting").valid.mean().idxmax())


def trained(
    options: argparse.Namespace, part: str, method: str, setting: str, seed: int
) -> dict[str, Any]:
    """Train once and judge on all validation and test images."""
    whole = task_of(options.dataset, json.dumps(options.data), seed)
    few = Split(Images(whole.valid.inputs[:WATCHED].numpy()), whole.valid.labels[:WATCHED])
    more = {"recipe": options.recipe}
    shape: dict[str, Any]
    if options.layers == "linear":
        shape = {"side": whole.input_shape[1], "classes": whole.classes}
        network = Network.from_function("__main__:conventional", shape, seed)
        more |= {"layers": "linear"} if method != "plain" else {}
    else:
        shape = {"input_shape": whole.input_shape, "classes": whole.classes}
        network = Network.named("resnet", seed, **options.network, **shape)
    stage = make_stage(options.settings[method][0], json.loads(setting) | more, "command line")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        context = StageContext(Path(folder), seed, options.device)
        result = stage.apply(network, replace(whole, valid=few), context)
    module = result.network.module
    return {
        "part": part,
        "method": method,
        "setting": setting,
        "seed": seed,
        "cpu_seconds": round(time.process_time() - start, 2),
        "valid": evaluate(module, whole, "valid"),
        "test": evaluate(module, whole, "test"),
        "train_loss": round(result.metrics["train_loss"], 5),
        "touched": result.metrics.get("distorted_maps", 0.0),
    }


@cache
def task_of(dataset: str, data: str, seed: int) -> Task:
    """Return a data set with the training and validation images of a seed."""
    return load_task(dataset, json.loads(data) | {"seed": seed}, "command line")


def tables(options: argparse.Namespace, frame: pd.DataFrame) -> str:
    """Return two markdown tables: test accuracies in pairs, and what tuning said."""
    final = frame[(frame.part == "final") & frame.seed.isin(options.seeds)]
    wide = 100 * final.pivot_table(index="seed", columns="method", values="test").dropna()
    network = "conventional" if options.layers == "linear" else f"ResNet {options.network}"
    lines = [
        f"{network}, {options.dataset} {options.data}, recipe {options.recipe}; {len(wide)} seeds.",
        "",
        "| method | setting | test accuracy % | over plain | over the best DropBlock | "
        "training loss | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    dropblock = [name for name in options.methods if name in wide and "dropblock" in name]
    rival = max(dropblock, key=lambda name: wide[name].mean(), default=None)
    for method in (name for name in options.methods if name in wide):
        own = final[final.method == method]
        lines.append(
            f"| {method} | {words(own.setting.iloc[0])} | {mean_error(wide[method])} | "
            f"{lead(wide, method, 'plain')} | {lead(wide, method, rival)} | "
            f"{own.train_loss.mean():.3f} | {own.cpu_seconds.median():.1f} |"
        )
    tuned = frame[(frame.part == "tune") & frame.seed.isin(options.tune_seeds)]
    lines += ["", "Means ± standard errors over the seeds; differences are paired.", ""]
    if tuned.empty:
        return "\n".join(lines)
    lines += [
        "Tuning, on other seeds:",
        "",
        "| method | setting | validation accuracy % | seeds |",
        "|---|---|---|---|",
    ]
    for key, rows in tuned.groupby(["method", "setting"], sort=False):
        method, setting = map(str, key)
        lines.append(
            f"| {method} | {words(setting)} | {mean_error(100 * rows.valid)} | {len(rows)} |"
        )
    return "\n".join([*lines, ""])


def words(setting: str) -> str:
    """Return a setting in words, without what the method's name says."""
    found = {key: value for key, value in json.loads(setting).items() if key != "position"}
    return ", ".join(f"{key} {value}" for key, value in found.items())


def lead(wide: pd.DataFrame, method: str, rival: str | None) -> str:
    """Return by how many points a method is ahead of a rival on the same seeds."""
    if rival is None or rival not in wide or rival == method:
        return ""
    return mean_error(wide[method] - wide[rival], "+")


def mean_error(values: pd.Series[float], sign: str = "") -> str:
    """Return mean ± standard error of the mean."""
    found = values.to_numpy(np.float64)
    error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return f"{found.mean():{sign}.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
