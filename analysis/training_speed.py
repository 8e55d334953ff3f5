"""How fast networks train, and what a folder of many images costs.

    python analysis/training_speed.py epoch [--threads 1] [--rounds 9]
    python analysis/training_speed.py folder [--images 50000]

``epoch``: ResNet-20 on 3 x 32 x 32 in batches of 128, by ``train`` and by a loop written by hand on
images that are standardised already, in both memory formats. Epochs of all of them take turns, so
that whatever else the machine does hits all alike; medians of the rounds. Training steps are timed,
from reading a batch to the new weights, not the validation after an epoch.

``folder``: start and peak memory of a folder of JPEG images at 160 x 160, decoded for the first
time and read from the cache, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from nasplatform.models.network import Network
from nasplatform.training.augmentation import flip_crop
from nasplatform.training.datasets import load_task
from nasplatform.training.layout import laid_out
from nasplatform.training.loop import train
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.recipe import Recipe
from nasplatform.training.streams import labelled
from nasplatform.training.task import Task

BATCH, BATCHES = 128, 5  # the first batch of an epoch is not timed, for any way
DISTINCT, CLASSES, SIDE = 40, 10, 160
Times = tuple[float, float]
"""Wall and CPU seconds."""


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("epoch", "folder", "read"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--augmentation", choices=("none", "flip-crop"), default="none")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--path", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part == "epoch":
        epochs(options.rounds, options.augmentation)
    elif options.part == "folder":
        folder(options.images)
    else:
        print(json.dumps(read(options.path)))
    return 0


def random_task() -> Task:
    """Return random images: one epoch of training batches, and few others."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, 3, 32, 32), np.uint8), np.arange(count) % CLASSES

    return standardised_task("random", [part(BATCH * BATCHES), part(32), part(32)], "random")


def by_hand(task: Task, layout: torch.memory_format, augmentation: str) -> Callable[[], Times]:
    """Return an epoch of a plain PyTorch loop, as one would write it for this network alone."""
    module = laid_out(Network.named("resnet").module, layout)
    inputs, labels = task.train.inputs[:], task.train.labels
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    rng = torch.Generator().manual_seed(0)

    def epoch() -> Times:
        module.train()
        start = 0.0, 0.0
        for number, rows in enumerate(torch.randperm(len(inputs)).tensor_split(BATCHES)):
            if number == 1:
                start = perf_counter(), process_time()
            images: Tensor = inputs[rows]
            if augmentation == "flip-crop":
                images = flip_crop(images, rng)
            images = images.contiguous(memory_format=layout)
            loss = functional.cross_entropy(module(images), labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        return perf_counter() - start[0], process_time() - start[1]

    return epoch


def epochs(rounds: int, augmentation: str) -> None:
    """Print a table: seconds of an epoch by each way, and their ratio to the fastest by hand."""
    task = random_task()
    ways = {
        "by hand, channels last": by_hand(task, torch.channels_last, augmentation),
        "by hand, contiguous": by_hand(task, torch.contiguous_format, augmentation),
    }
    times: dict[str, list[Times]] = {name: [] for name in ("train", *ways)}
    begun = [0.0, 0.0]

    def progress(done: int, total: int, words: str) -> None:
        if done % BATCHES == 1:
            begun[:] = perf_counter(), process_time()
        if done % BATCHES == 0:
            times["train"].append((perf_counter() - begun[0], process_time() - begun[1]))
            for name, epoch in ways.items():
                times[name].append(epoch())

    recipe = Recipe(epochs=rounds + 1, batch_size=BATCH, augmentation=augmentation)
    train(Network.named("resnet").module, task, recipe, 0, progress=progress)
    medians = {
        name: [statistics.median(column) for column in zip(*found[1:], strict=True)]
        for name, found in times.items()
    }
    fastest = [min(medians[name][k] for name in ways) for k in (0, 1)]
    print(f"{torch.get_num_threads()} thread(s), augmentation {augmentation}, {rounds} rounds\n")
    print("| way | wall, ms a step | ratio | CPU, ms a step | ratio |\n|---|---|---|---|---|")
    for name, (wall, cpu) in medians.items():
        print(
            f"| {name} | {1e3 * wall / (BATCHES - 1):.0f} | {wall / fastest[0]:.3f} "
            f"| {1e3 * cpu / (BATCHES - 1):.0f} | {cpu / fastest[1]:.3f} |"
        )


def folder(images: int) -> None:
    """Print a table: start and memory of a folder of JPEG images."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "images"
        write_folder(path, images)
        print(f"{images:,} JPEG images, {SIDE} x {SIDE}, {os.cpu_count()} cores\n")
        print("| | start, s | a pass over the training images, s | peak memory, GB |")
        print("|---|---|---|---|")
        for name in ("decoded", "from the cache"):
            words = [sys.executable, __file__, "read", "--path", str(path)]
            home = os.environ | {"NASPLATFORM_HOME": temporary}
            found = json.loads(
                subprocess.run(words, check=True, capture_output=True, env=home).stdout
            )
            numbers = " | ".join(f"{found[k]:.2f}" for k in ("start", "epoch", "memory"))
            print(f"| {name} | {numbers} |", flush=True)


def write_folder(path: Path, images: int) -> None:
    """Write a few random JPEG images, and hard links to them under many names."""
    rng = np.random.default_rng(0)
    originals = []
    for number in range(DISTINCT):
        coarse = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
        original = path / f"original-{number}.jpg"
        original.parent.mkdir(exist_ok=True)
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(original, quality=90)
        originals.append(original)
    for label in range(CLASSES):
        (path / f"class{label}").mkdir()
    for number in range(images):
        target = path / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        target.hardlink_to(originals[number % DISTINCT])


def read(path: Path) -> dict[str, float]:
    """Load a folder, take training steps, read every training image once; seconds and GB."""
    start = perf_counter()
    task = load_task("folder", {"path": str(path), "size": SIDE}, "command line")
    loaded = perf_counter()
    print(task.summary(), file=sys.stderr)
    recipe = Recipe(epochs=1, batch_size=64)
    for batch in labelled(task, recipe).epoch(0):
        assert batch.inputs.dtype == torch.float32
    ended = perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"start": loaded - start, "epoch": ended - loaded, "memory": peak}


if __name__ == "__main__":
    raise SystemExit(main())
