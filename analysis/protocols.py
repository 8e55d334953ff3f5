"""Measure predictors under the label protocols: markdown and parquet in a folder, resumable.

    python analysis/protocols.py results/ --predictors renas,gp-trees,default --draws 10

A predictor may carry options, as in ``renas:epochs=200:relabel=false``: what an ablation changes.
Every (protocol, predictor, labels, draw) is measured once and kept in ``draws.parquet``; a run that
was broken off goes on where it stood. ``protocols.md`` has mean and standard deviation over the
draws, and what ``default`` gains on the same draws, with the standard error of that mean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from nasplatform.atomic_io import replace_file, write_text
from nasplatform.errors import InputError
from nasplatform.predictors.baselines import baselines_of
from nasplatform.predictors.evaluation import (
    COLUMNS,
    differences,
    measure,
    paired,
    summarise,
    table,
)
from nasplatform.predictors.protocols import Protocol, draw, get_protocol, graphs_of

KEYS = ["protocol", "predictor", "labels", "draw"]
REFERENCE = "default"


def parsed(name: str) -> tuple[str, dict[str, Any]]:
    """Return the predictor and its options, each of which is written as ``:option=value``."""
    method, *options = name.split(":")
    pairs = (option.partition("=") for option in options)
    return method, {option: yaml.safe_load(value) for option, _, value in pairs}


def finished(path: Path) -> pd.DataFrame:
    """Return the rows that were measured already, none where there is no file yet."""
    return pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=KEYS)


def missing(
    known: pd.DataFrame, protocol: Protocol, names: Sequence[str], labels: Sequence[int], draws: int
) -> dict[tuple[int, int], list[str]]:
    """Return (labels, draw) -> the predictors that were not measured on it."""
    done = set(known[KEYS].itertuples(index=False, name=None))
    wanted: dict[tuple[int, int], list[str]] = {}
    for n in labels:
        for seed in range(draws):
            left = [name for name in names if (protocol.name, name, n, seed) not in done]
            if left:
                wanted[n, seed] = left
    return wanted


def fill(
    path: Path, protocol: Protocol, names: Sequence[str], labels: Sequence[int], draws: int
) -> None:
    """Measure what is missing and write the file after each draw."""
    known = finished(path)
    for (n, seed), left in missing(known, protocol, names, labels, draws).items():
        drawn = draw(protocol, n, seed)
        rows: list[dict[str, Any]] = []
        for name in left:
            place = {"protocol": protocol.name, "predictor": name, "labels": n, "draw": seed}
            method, options = parsed(name)
            rows.append(place | measure(method, drawn, seed, options))
            tau = rows[-1]["kendall"]
            sys.stderr.write(f"{protocol.name} {n} labels, draw {seed}: {name} {tau:.4f}\n")
        new = pd.DataFrame(rows)
        known = pd.concat([known, new], ignore_index=True) if len(known) else new
        with replace_file(path) as temporary:
            known.to_parquet(temporary, index=False)


def markdown(results: pd.DataFrame) -> str:
    """Return the tables of all protocols."""
    parts = ["# Predictors under the label protocols", ""]
    for name in results["protocol"].unique():
        protocol = get_protocol(name)
        parts += [f"## {name}", "", f"{protocol.about} ({protocol.source}).", ""]
        chosen = results[results["protocol"] == name].sort_values(["labels", "predictor", "draw"])
        summary = summarise(chosen)
        rows, columns = table(summary), list(COLUMNS)
        if REFERENCE in set(chosen["predictor"]):
            columns.insert(4, f"tau - {REFERENCE}")
            gaps = differences(summary.merge(paired(chosen, REFERENCE), how="left"))
            rows = [row | {columns[4]: gap} for row, gap in zip(rows, gaps, strict=True)]
        parts += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        parts += ["| " + " | ".join(str(row[key]) for key in columns) + " |" for row in rows]
        parts.append("")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocols", default="tnasp,nb201")
    parser.add_argument("--predictors", default="renas,gp-trees,default")
    parser.add_argument("--labels", default="", help="e.g. 100,424; the protocol's own if absent")
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args(arguments)
    path = given.folder / "draws.parquet"
    try:
        for name in given.protocols.split(","):
            protocol = get_protocol(name)
            labels = [int(n) for n in given.labels.split(",") if n] or list(protocol.labels)
            names = [*baselines_of(graphs_of(protocol)), *given.predictors.split(",")]
            fill(path, protocol, names, labels, given.draws)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    write_text(given.folder / "protocols.md", markdown(finished(path)))
    sys.stdout.write(markdown(finished(path)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
