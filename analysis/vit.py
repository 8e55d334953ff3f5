"""Visual transformers measured.

    python analysis/vit.py step [--threads 1] [--rounds 9] [--batch 8]
    python analysis/vit.py costs [--number 100000]
    python analysis/vit.py search results/ [--seeds 5] [--budget 40]
    python analysis/vit.py prune [--seeds 5] [--keep 0.6]

``step``: seconds of a training step of DeiT-Ti on 3 x 224 x 224 (forward, backward, AdamW), of the
network of the space and of one written by hand in plain PyTorch, which computes queries, keys and
values by one matrix. Steps of both take turns; medians of the rounds, and the standard error of the
ratio of the steps of a round.

``costs``: CPU seconds, on one thread, in which parameters and multiply-adds of that many sampled
transformers are counted, for every sub-space.

``search``: searches in which every transformer is really trained, on Fashion-MNIST: the predictor
``default`` beside random search with the same budget. A search gives its best in validation; the
accuracy on test images is of that one. Writes ``vit-search.parquet``, a row for each network that
was trained, and ``vit-search.md``: mean and standard error over the seeds. A search that was broken
off goes on where it stood.

``prune``: for every seed a transformer is trained on Fashion-MNIST at 14 x 14, cut by ``scop`` to a
share of its multiply-adds and fine-tuned. Accuracies are those of test images before and after;
latency is that of ONNX Runtime for 64 images on one thread, both networks in turn, of each the best
of the rounds. What is finished is kept in ``--out`` and not computed again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import optuna
import pandas as pd
import torch
from kept import keep_options
from torch import Tensor, nn
from torch.nn import functional
from vit_pruning import add_options, prune

from nasplatform import plugins
from nasplatform.atomic_io import replace_file, write_text
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.trained import TrainedEvaluator, TrainedOptions
from nasplatform.executors.store import open_store
from nasplatform.predictors import get_predictor
from nasplatform.search import SamplerContext, TrialRecord, search
from nasplatform.spaces import get_space
from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.network import Network
from nasplatform.spaces.vit.space import VisionTransformers
from nasplatform.spaces.vit.subspaces import SUBSPACES
from nasplatform.training.datasets import load_task
from nasplatform.training.optimizers import AdamW
from nasplatform.training.recipe import Recipe

WIDTH, HEADS, DEPTH, PATCH, SIDE, CLASSES = 192, 3, 12, 16, 224, 1000
SAMPLERS = ("predictor", "random")
FASHION = {"pool": 4, "train_size": 1500, "valid_size": 1500, "test_size": 2000}
RECIPE = Recipe(epochs=2, batch_size=64, optimizer=AdamW(), learning_rate=0.005, weight_decay=0.05)


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("step", help="a training step of DeiT-Ti beside a plain one")
    part.add_argument("--threads", type=int, default=1)
    part.add_argument("--rounds", type=int, default=9)
    part.add_argument("--batch", type=int, default=8)
    part = parts.add_parser("costs", help="parameters and multiply-adds of many transformers")
    part.add_argument("--number", type=int, default=100_000)
    part = parts.add_parser("search", help="searches that train every transformer")
    part.add_argument("folder", type=Path)
    part.add_argument("--seeds", type=int, default=5)
    part.add_argument("--budget", type=int, default=40)
    part.add_argument("--most", type=int, help="searches of this call; all that are missing")
    add_options(parts.add_parser("prune", help="a transformer cut by scop"))
    options = parser.parse_args()
    torch.set_num_threads(getattr(options, "threads", 1))
    if options.part == "step":
        step(options.rounds, options.batch)
    elif options.part == "costs":
        costs(options.number)
    elif options.part == "prune":
        prune(options)
    else:
        choosing = ("part", "folder", "seeds", "most")
        keep_options(options.folder / "vit-search.parquet", options, choosing)
        searches(options.folder, options.seeds, options.budget, options.most)
    return 0


class PlainLayer(nn.Module):
    """One layer of DeiT as one would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, 1e-6), nn.LayerNorm(WIDTH, 1e-6)
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.project(mixed.transpose(1, 2).reshape(b, t, c))
        added: Tensor = x + self.mlp(self.norm2(x))
        return added


class PlainDeiT(nn.Module):
    """DeiT-Ti as one would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (SIDE // PATCH) ** 2, WIDTH))
        self.layers = nn.Sequential(*(PlainLayer() for _ in range(DEPTH)))
        self.norm, self.head = nn.LayerNorm(WIDTH, 1e-6), nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 1000)."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.positions
        logits: Tensor = self.head(self.norm(self.layers(x))[:, 0])
        return logits


def step(rounds: int, batch: int) -> None:
    """Print seconds of a step of both networks, and their ratio."""
    deit = next(family for family in families() if family.name == "deit-ti")
    networks: dict[str, nn.Module] = {
        "space": Network(deit.architecture, deit.input_shape, deit.classes),
        "by hand": PlainDeiT(),
    }
    sizes = {sum(weight.numel() for weight in one.parameters()) for one in networks.values()}
    if len(sizes) > 1:
        raise AssertionError(f"the two networks are not of one size: {sizes}")
    ways = {name: training(module, batch) for name, module in networks.items()}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, once in ways.items():
            begun = perf_counter(), process_time()
            once()
            if number:  # the first step makes room
                wall[name].append(perf_counter() - begun[0])
                cpu[name].append(process_time() - begun[1])
    print(f"| DeiT-Ti, {batch} images | seconds | CPU seconds |\n|---|---|---|")
    for name in ways:
        print(f"| {name} | {_median(wall[name]):.3f} | {_median(cpu[name]):.3f} |")
    print(f"| ratio | {_ratio(wall)} | {_ratio(cpu)} |")


def training(module: nn.Module, batch: int) -> Callable[[], None]:
    """Return a training step on random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(CLASSES, (batch,), generator=generator)
    optimizer = torch.optim.AdamW(module.train().parameters(), lr=1e-4)

    def once() -> None:
        loss = functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return once


def costs(number: int) -> None:
    """Print CPU seconds of counting a population of each sub-space."""
    print(f"| {number:,} of | CPU seconds |\n|---|---|")
    for name in SUBSPACES:
        space = get_space("vit", subspace=name)
        assert isinstance(space, VisionTransformers)
        some = space.sample(number, np.random.default_rng(0))
        begun = process_time()
        space.costs(some)
        print(f"| {name} | {process_time() - begun:.2f} |")


def searches(folder: Path, seeds: int, budget: int, most: int | None) -> None:
    """Run what the folder does not hold yet, at most so many searches; print what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "vit-search.parquet"
    known = pd.read_parquet(file) if file.exists() else pd.DataFrame()
    done = set(zip(known.get("seed", ()), known.get("sampler", ()), strict=True))
    wanted = [(seed, sampler) for seed in range(seeds) for sampler in SAMPLERS]
    for seed, sampler in [one for one in wanted if one not in done][:most]:
        known = pd.concat([known, searched(folder, sampler, seed, budget)], ignore_index=True)
        with replace_file(file) as temporary:
            known.to_parquet(temporary, index=False)
        write_text(folder / "vit-search.md", found(known))
    print(found(known))


def searched(folder: Path, sampler: str, seed: int, budget: int) -> pd.DataFrame:
    """Run one search; return a row for each network, in the order of training."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    context = EvaluationContext(task=load_task("fashion-mnist", FASHION, "analysis"))
    space = get_space("vit", subspace="digits", input_shape=(1, 7, 7))
    evaluator = TrainedEvaluator(TrainedOptions(recipe=RECIPE), space, context)
    kind = plugins.get("samplers", sampler)
    predictor = get_predictor("default", seed=seed)
    chosen = SamplerContext(evaluator.space, seed, None, predictor)
    study = optuna.create_study(
        direction="maximize", sampler=kind.from_options(kind.Options(), chosen)
    )
    with open_store(folder / "trainings.sqlite") as store:
        search(study, evaluator, store, budget, seed)
    records = [
        record
        for trial in study.get_trials()
        if (record := TrialRecord.of(trial)) is not None and record.repeats is None
    ]
    return pd.DataFrame(
        {
            "sampler": sampler,
            "seed": seed,
            "trained": np.arange(1, len(records) + 1),
            "architecture": [one.architecture for one in records],
            "valid_accuracy": [one.score for one in records],
            "test_accuracy": [one.metrics.get("test_accuracy") for one in records],
            "seconds": [one.seconds for one in records],
        }
    )


def found(known: pd.DataFrame) -> str:
    """Return a table: accuracies of the best in validation, mean and standard error over seeds."""
    best = known.loc[known.groupby(["sampler", "seed"])["valid_accuracy"].idxmax()]
    metrics = ["valid_accuracy", "test_accuracy"]
    wide = 100 * best.pivot(index="seed", columns="sampler", values=metrics).dropna()
    lines = [f"| Fashion-MNIST, {len(wide)} seeds | validation % | test % |", "|---|---|---|"]
    for name in known["sampler"].unique():
        shown = [_shown(wide[metric][name]) for metric in metrics]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    if set(SAMPLERS) <= set(known["sampler"]):
        gains = [_shown(wide[metric]["predictor"] - wide[metric]["random"]) for metric in metrics]
        lines.append("| predictor minus random | " + " | ".join(gains) + " |")
    return "\n".join(lines) + "\n"


def _shown(values: pd.Series[float]) -> str:
    return f"{values.mean():.2f} ± {values.std() / np.sqrt(len(values)):.2f}"


def _ratio(times: dict[str, list[float]]) -> str:
    """Return the median of the ratios of the rounds, and its spread."""
    ratios = np.array(times["space"]) / np.array(times["by hand"])
    error = 1.2533 * ratios.std(ddof=1) / len(ratios) ** 0.5  # of a median
    return f"{np.median(ratios):.3f} ± {error:.3f}"


def _median(times: list[float]) -> float:
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
