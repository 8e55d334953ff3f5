"""Visual transformers measured.

    python analysis/vit.py step [--threads 1] [--rounds 9] [--batch 8]
    python analysis/vit.py prune [--seeds 5] [--keep 0.6]

``step``: seconds of a training step of DeiT-Ti on 3 x 224 x 224 (forward, backward, AdamW), of the
network of the space and of one written by hand in plain PyTorch, which computes queries, keys and
values by one matrix. Steps of both take turns; medians of the rounds, and the standard error of the
ratio of the steps of a round.

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
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.models.network import Network
from nasplatform.runtimes.measure import latencies
from nasplatform.spaces import get_space
from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.network import Network as Transformer
from nasplatform.spaces.vit.text import parse_text
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

WIDTH, HEADS, DEPTH, PATCH, SIDE, CLASSES = 192, 3, 12, 16, 224, 1000


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("step", help="a training step of DeiT-Ti beside a plain one")
    part.add_argument("--threads", type=int, default=1)
    part.add_argument("--rounds", type=int, default=9)
    part.add_argument("--batch", type=int, default=8)
    part = parts.add_parser("prune", help="a transformer cut by scop, its accuracy and latency")
    part.add_argument("--out", type=Path, default=Path("runs/vit-prune"))
    part.add_argument("--seeds", type=int, default=5)
    part.add_argument("--keep", type=float, default=0.6, help="share of the multiply-adds left")
    part.add_argument("--text", default="average/conv2s2+w32+learned:2*h4w32-mlp4")
    part.add_argument("--epochs", type=int, default=12, help="of the first training")
    part.add_argument("--tune", type=int, default=6, help="epochs of fine-tuning")
    part.add_argument("--train-size", type=int, default=2000)
    part.add_argument("--test-size", type=int, default=5000)
    part.add_argument("--rounds", type=int, default=5, help="of the latency")
    options = parser.parse_args()
    if options.part == "step":
        torch.set_num_threads(options.threads)
        step(options.rounds, options.batch)
    else:
        prune(options)
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
        "space": Transformer(deit.architecture, deit.input_shape, deit.classes),
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


def prune(options: argparse.Namespace) -> None:
    """Print a row for each seed, and the means with their standard errors."""
    size = {"pool": 2, "train_size": options.train_size, "test_size": options.test_size}
    task = load_task("fashion-mnist", size | {"valid_size": 500}, "command line")
    print("| seed | before % | after % | change | multiply-adds | parameters | latency |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for seed in range(options.seeds):
        rows.append(_pruned(options, task, seed))
        print(_row(str(seed), rows[-1]), flush=True)
    mean, error = (np.stack(rows).mean(0), np.stack(rows).std(0, ddof=1) / len(rows) ** 0.5)
    print(_row("mean", mean))
    print(_row("standard error", error))


def _pruned(options: argparse.Namespace, task: Task, seed: int) -> NDArray[np.float64]:
    """Return accuracies before and after in %, their difference, and three shares."""
    space = get_space("vit", subspace="digits", input_shape=task.input_shape)
    recipe = {"optimizer": {"name": "adamw"}, "weight_decay": 0.05}
    first = {"epochs": options.epochs, "learning_rate": 0.003, **recipe}
    second = {"epochs": options.tune, "learning_rate": 0.001, **recipe}
    budget = {"metric": "macs", "keep": options.keep}
    folder = options.out / f"seed-{seed}"
    start = Network.of(space, parse_text(options.text), seed)
    base, [trained] = run_pipeline(
        start, task, [("train", {"recipe": first})], folder / "base", seed
    )
    cut = {"recipe": second, "budget": budget, "round_to": 8, "control": {"epochs": 5}}
    name = f"scop-{options.keep}-{options.tune}"
    small, [record] = run_pipeline(base, task, [("scop", cut)], folder / name, seed)
    before, after = trained["after"]["accuracy"], record["after"]["accuracy"]
    times = np.array(
        [
            [latencies(n.module, task.input_shape, (64,))[0].median_ms for n in (base, small)]
            for _ in range(options.rounds)
        ]
    ).min(0)
    shares = (record["metrics"][f"{size}_kept"] for size in ("macs", "parameters"))
    return np.array(
        [100 * before, 100 * after, 100 * (after - before), *shares, times[1] / times[0]]
    )


def _row(name: str, values: NDArray[np.float64]) -> str:
    shown = [*(f"{value:.2f}" for value in values[:3]), *(f"{value:.3f}" for value in values[3:])]
    return f"| {' | '.join([name, *shown])} |"


def _ratio(times: dict[str, list[float]]) -> str:
    """Return the median of the ratios of the rounds, and its spread."""
    ratios = np.array(times["space"]) / np.array(times["by hand"])
    error = 1.2533 * ratios.std(ddof=1) / len(ratios) ** 0.5  # of a median
    return f"{np.median(ratios):.3f} ± {error:.3f}"


def _median(times: list[float]) -> float:
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
