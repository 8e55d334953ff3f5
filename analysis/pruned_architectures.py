"""Architectures of the literature at half of their multiply-adds, beside torch-pruning.

    python analysis/pruned_architectures.py

Each network of ``tests/zoo/zoo_classics.py`` (widths twice those of the tests, weights from a seed,
untrained) is cut by the magnitudes of its filters, the same share of every layer, until at most
``--keep`` of its multiply-adds are left: by this package, and by torch-pruning's MagnitudePruner,
whose ratio is found by bisection, once with the widths rounded to eights and once with any width;
the faster of the two is shown. Latency is ONNX Runtime's on one thread, the lowest of ``--rounds``
medians of networks that are timed in turn, after as a share of before. Writes
``pruned_architectures.parquet`` and ``.md`` into ``--out``; what is there is not computed again.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from kept import keep_options
from torch import nn

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.errors import StageError
from nasplatform.models.costs import count_parameters
from nasplatform.pruning.budgets import Budget, counted_goal
from nasplatform.pruning.equality import check_equal, masked
from nasplatform.pruning.importance import group_scores, l1
from nasplatform.pruning.selection import enough, ranked
from nasplatform.pruning.surgery import kept_channels, remove
from nasplatform.pruning.tracing import channel_graph
from nasplatform.runtimes.measure import latencies
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded

ZOO = Path(__file__).parent.parent / "tests" / "zoo"
SHAPE = (3, 16, 16)
BATCHES = (1, 64)
MULTIPLE = 16
"""Of channels, as the stage ``scop`` takes under a budget."""
STEPS = 7
"""In which torch-pruning's ratio is found, to better than a percent."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/pruned-architectures"))
    parser.add_argument("--keep", type=float, default=0.5, help="share of the MACs that is left")
    parser.add_argument("--rounds", type=int, default=3, help="of the latencies")
    parser.add_argument("--networks", nargs="*", help="all of them by default")
    return parser.parse_args()


def classics() -> dict[str, Callable[..., nn.Module]]:
    """Return the functions that make the architectures, by name."""
    sys.path.insert(0, str(ZOO))
    room = importlib.import_module("zoo_classics")
    members = importlib.import_module("zoo_members").MEMBERS
    names = [name for name, member in members.items() if member.kind == "classics"]
    return {name: getattr(room, name) for name in names}


def made(make: Callable[..., nn.Module]) -> nn.Module:
    """Build a network at twice its width, with weights from a seed."""
    (width,) = make.__defaults__ or (0,)
    with seeded(0):
        return make(2 * width).eval()


def by_this_package(module: nn.Module, keep: float) -> nn.Module:
    """Cut a network; raise StageError where that cannot be done, or the cut is wrong."""
    graph = channel_graph(module, SHAPE)
    budget = Budget(keep=keep)
    goal = counted_goal(module, graph, SHAPE, budget, keep * count_macs(module, SHAPE))
    scores = group_scores(graph, l1(module, graph))
    removed = enough(ranked(graph, scores, "uniform", MULTIPLE), goal)
    small = remove(copy.deepcopy(module), kept_channels(graph, removed))
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    check_equal(small, masked(module, graph, removed), images)
    return small


def by_torch_pruning(module: nn.Module, keep: float, multiple: int | None) -> nn.Module:
    """Cut a network with torch-pruning; whatever it raises is raised."""
    import torch_pruning as tp

    most, low, high = keep * count_macs(module, SHAPE), 0.0, 1.0
    found: nn.Module | None = None
    for _ in range(STEPS):
        middle, small = (low + high) / 2, copy.deepcopy(module)
        classifier = [
            layer for layer in small.modules() if getattr(layer, "weight", None) is not None
        ]
        pruner = tp.pruner.MagnitudePruner(
            small,
            torch.zeros(1, *SHAPE),
            tp.importance.MagnitudeImportance(p=1),
            pruning_ratio=middle,
            ignored_layers=classifier[-1:],
            round_to=multiple,
        )
        pruner.step()
        if count_macs(small, SHAPE) <= most:
            found, high = small, middle
        else:
            low = middle
    if found is None:
        raise StageError("no ratio meets the budget")
    with torch.no_grad():
        if found(torch.zeros(2, *SHAPE)).shape != module(torch.zeros(2, *SHAPE)).shape:
            raise StageError("it makes logits of another shape")
    return found


def attempt(cut: Callable[[], nn.Module]) -> tuple[nn.Module | None, str]:
    """Return a cut network, or what went wrong in a few words."""
    try:
        return cut(), ""
    except Exception as error:  # whatever torch-pruning or the network raises
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"


def row(name: str, module: nn.Module, keep: float, rounds: int) -> dict[str, Any]:
    """Cut one network in every way and measure what is left."""
    ways: Mapping[str, Callable[[], nn.Module]] = {
        "ours": lambda: by_this_package(module, keep),
        "theirs_8": lambda: by_torch_pruning(module, keep, 8),
        "theirs_any": lambda: by_torch_pruning(module, keep, None),
    }
    found = {way: attempt(cut) for way, cut in ways.items()}
    small = {way: made for way, (made, _) in found.items() if made is not None}
    every = {"before": module, **small}
    times = {way: [float("inf")] * len(BATCHES) for way in every}
    for _ in range(rounds):
        for way, network in every.items():
            now = [x.median_ms for x in latencies(network, SHAPE, BATCHES, "onnxruntime")]
            times[way] = [min(pair) for pair in zip(times[way], now, strict=True)]
    macs, params = count_macs(module, SHAPE), count_parameters(module, SHAPE)
    result: dict[str, Any] = {"network": name, "macs": macs, "params": params}
    result |= {f"before_ms_{b}": t for b, t in zip(BATCHES, times["before"], strict=True)}
    for way, (made, why) in found.items():
        result[f"{way}_fails"] = why
        if made is None:
            continue
        result[f"{way}_macs"] = count_macs(made, SHAPE) / macs
        result[f"{way}_params"] = count_parameters(made, SHAPE) / params
        for batch, before, after in zip(BATCHES, times["before"], times[way], strict=True):
            result[f"{way}_ms_{batch}"] = after / before
    return result


def table(frame: pd.DataFrame) -> str:
    """Return a markdown table, one row per network."""
    lines = [
        "| network | MACs | before, 64 images | MACs left | parameters | latency, 1 image | "
        "64 images | torch-pruning: MACs left | parameters | 1 image | 64 images |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for _, found in frame.iterrows():
        their = ["theirs_8", "theirs_any"]
        works = [way for way in their if not found[f"{way}_fails"]]
        cells = _cells(found, "ours")
        if works:
            best = min(works, key=lambda way: float(found[f"{way}_ms_64"]))
            cells += _cells(found, best)
        else:
            cells += [f"fails: {found['theirs_any_fails']}", "", "", ""]
        start = f"{found.network} | {found.macs / 1e6:.2f} M | {found.before_ms_64:.1f} ms"
        lines.append(f"| {start} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cells(found: Any, way: str) -> list[str]:
    if found[f"{way}_fails"]:
        return [f"fails: {found[f'{way}_fails']}", "", "", ""]
    names = ("macs", "params", *(f"ms_{batch}" for batch in BATCHES))
    return [f"{found[f'{way}_{name}']:.2f}" for name in names]


def main() -> None:
    """Measure what is missing and write the table."""
    options = arguments()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    path = options.out / "pruned_architectures.parquet"
    keep_options(path, options, ("out", "networks"))
    found = pd.read_parquet(path) if path.exists() else pd.DataFrame({"network": []})
    for name, make in classics().items():
        if name in set(found.network) or (options.networks and name not in options.networks):
            continue
        now = pd.DataFrame([row(name, made(make), options.keep, options.rounds)])
        found = pd.concat([found, now], ignore_index=True)
        print(now.iloc[0].to_dict(), flush=True)
        with replace_file(path) as temporary:
            found.to_parquet(temporary)
        write_text(options.out / "pruned_architectures.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
