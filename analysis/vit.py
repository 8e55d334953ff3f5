"""Visual transformers measured.

    python analysis/vit.py step [--threads 1] [--rounds 9] [--batch 8]

``step``: seconds of a training step of DeiT-Ti on 3 x 224 x 224 (forward, backward, AdamW), of the
network of the space and of one written by hand in plain PyTorch, which computes queries, keys and
values by one matrix. Steps of both take turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter, process_time

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.network import Network

WIDTH, HEADS, DEPTH, PATCH, SIDE, CLASSES = 192, 3, 12, 16, 224, 1000


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("step", help="a training step of DeiT-Ti beside a plain one")
    part.add_argument("--threads", type=int, default=1)
    part.add_argument("--rounds", type=int, default=9)
    part.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    step(options.rounds, options.batch)
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
    ratios = (_median(times["space"]) / _median(times["by hand"]) for times in (wall, cpu))
    print("| ratio | {:.3f} | {:.3f} |".format(*ratios))


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


def _median(times: list[float]) -> float:
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
