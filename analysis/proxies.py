"""How well training-free proxies rank the architectures that a label protocol is judged by.

    python analysis/proxies.py results/ --protocols nb201 --images cifar10.npz --cells 300

Random judged architectures are scored one after the other, each by every proxy, in the skeleton of
the protocol's table and on its data: those an embedded table was made of, else an npz file
(``x_train``, ``y_train``, as the data set ``npz`` reads them). ``proxies.csv`` keeps the scores; a
run that was broken off goes on where it stood. Writes Kendall's tau with a bootstrap error beside
what others published of all cells. AZ-NAS ranks all that were scored, and in a further row each
among the first fifty, as the evaluator ranks it among fifty others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
from kept import keep_options
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasplatform.atomic_io import replace_file
from nasplatform.benchmarks.embedded import SETUPS
from nasplatform.benchmarks.registry import list_tables, load_table
from nasplatform.benchmarks.table import BenchmarkTable
from nasplatform.errors import DataError, InputError
from nasplatform.evaluators.az_nas import PARTS, log_ranks
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.evaluators.proxy import POOL, ProxyEvaluator, ProxyOptions
from nasplatform.predictors.protocols import Protocol, get_protocol
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

PROXIES = ("params", "flops", "jacov", "naswot", "synflow", "zico", "az-nas")
KEYS = ["protocol", "row", "proxy"]
PUBLISHED = {"nb201": {"jacov": 0.616, "zico": 0.607, "az-nas": 0.741}}
AMONG = f"az-nas among {POOL}"
HELD = {"jacov": "zc_c10_jacov", "naswot": "zc_c10_nwot", "synflow": "zc_c10_synflow"}
_RESAMPLED = 1000


def table_of(protocol: Protocol) -> BenchmarkTable:
    """Return the table of a protocol, the first that is at hand."""
    at_hand = [name for name in protocol.table if name in list_tables()]
    return load_table((at_hand or protocol.table)[0])


def task_of(table: BenchmarkTable, images: Path | None) -> Task:
    """Return the data that an embedded table was made of, else those of the npz file."""
    if table.name in SETUPS:
        setup = SETUPS[table.name]
        return load_task(setup.dataset, dict(setup.options), table.name)
    if images is None:
        raise DataError(f"table {table.name!r} is not embedded: give its images as --images FILE")
    return load_task("npz", {"path": str(images)}, "--images")


def scores_of(maker: ProxyEvaluator, architecture: Any) -> dict[str, float]:
    """Return what a proxy says of an architecture: of AZ-NAS the parts, of any other one score."""
    name = maker.options.proxy
    if name == "az-nas":
        return maker.parts(architecture, 0)
    return {name: maker.evaluate(architecture, 0, 0).score}


def score(path: Path, protocol: Protocol, images: Path | None, cells: int, batch: int) -> None:
    """Score what is missing of a protocol and write the file after each architecture."""
    table = table_of(protocol)
    judged = np.flatnonzero(np.isfinite(protocol.test.values(table)))
    rows = np.random.default_rng(0).permutation(judged)[:cells].tolist()
    context = EvaluationContext(None, task_of(table, images))
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=KEYS)
    done = set(known[KEYS].itertuples(index=False, name=None))
    makers = [
        ProxyEvaluator(ProxyOptions(proxy=name, batch_size=batch), table.space, context)
        for name in PROXIES
    ]
    for count, row in enumerate(rows, 1):
        new: list[dict[str, Any]] = []
        for maker in makers:
            names = PARTS if maker.options.proxy == "az-nas" else (maker.options.proxy,)
            if (protocol.name, row, names[0]) in done:
                continue
            begun = process_time()
            found = scores_of(maker, table.architectures[row])
            place = {"protocol": protocol.name, "row": row, "batch": batch}
            place["seconds"] = process_time() - begun
            new += [place | {"proxy": name, "score": found[name]} for name in names]
        if new:
            known = pd.concat([known, pd.DataFrame(new)]) if len(known) else pd.DataFrame(new)
            with replace_file(path) as temporary:
                known.to_csv(temporary, index=False)
            sys.stderr.write(f"{protocol.name}: {count} of {len(rows)} architectures\n")


def frame_of(path: Path, protocol: Protocol) -> tuple[pd.DataFrame, pd.Series[float]]:
    """Return one row per architecture, every proxy and the truth; and median seconds by proxy."""
    known = pd.read_csv(path).query("protocol == @protocol.name")
    frame = known.pivot(index="row", columns="proxy", values="score").loc[known["row"].unique()]
    parts = frame[[*PARTS, "flops"]].to_numpy()
    frame["az-nas"] = log_ranks(parts)
    frame[AMONG] = [log_ranks(np.vstack([parts[:POOL], one]))[-1] for one in parts]
    frame["truth"] = protocol.test.values(table_of(protocol))[frame.index]
    seconds = known.groupby("proxy")["seconds"].median()
    seconds["az-nas"] = seconds[PARTS[0]]
    return frame, seconds


def tau(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> str:
    """Return Kendall's tau and its bootstrap error in words; what is not finite ranks last."""
    scores, rng = np.nan_to_num(scores, nan=-np.inf), np.random.default_rng(0)
    again = []
    for _ in range(_RESAMPLED):
        some = rng.integers(len(truth), size=len(truth))
        again.append(kendalltau(scores[some], truth[some])[0])
    return f"{kendalltau(scores, truth)[0]:.3f} ± {np.std(again):.3f}"


def markdown(path: Path, protocol: Protocol) -> str:
    """Return the table of a protocol."""
    frame, seconds = frame_of(path, protocol)
    truth, published = frame["truth"].to_numpy(), PUBLISHED.get(protocol.name, {})
    lines = [
        f"{protocol.name}: {len(frame)} random architectures\n",
        "| proxy | tau | published, all cells | CPU s each |",
        "|---|---|---|---|",
    ]
    for name in (*PROXIES, AMONG, *PARTS):
        known, spent = published.get(name, ""), seconds.get(name)
        cost = "" if spent is None else f"{spent:.2f}"
        lines.append(f"| {name} | {tau(frame[name].to_numpy(), truth)} | {known} | {cost} |")
    return "\n".join(lines) + "\n"


def beside_published(path: Path, protocol: Protocol) -> str:
    """Return ours beside the scores that the table holds, on the cells that have them."""
    frame, _ = frame_of(path, protocol)
    attributes = table_of(protocol).attributes
    lines = []
    for name, column in HELD.items():
        if column in attributes:
            theirs = attributes[column][frame.index].astype(np.float64)
            both = np.isfinite(theirs) & np.isfinite(frame[name].to_numpy())
            ours, truth = frame[name].to_numpy()[both], frame["truth"].to_numpy()[both]
            between = kendalltau(ours, theirs[both])[0]
            lines.append(
                f"{name}, the {both.sum()} cells of which the table holds a published score: ours "
                f"{tau(ours, truth)}, that {tau(theirs[both], truth)}, between them {between:.3f}"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocols", default="nb201")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    path = given.folder / "proxies.csv"
    keep_options(path, given, ("folder", "protocols", "cells", "images"))
    try:
        for name in given.protocols.split(","):
            protocol = get_protocol(name)
            score(path, protocol, given.images, given.cells, given.batch)
            print(markdown(path, protocol))
            print(beside_published(path, protocol))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
