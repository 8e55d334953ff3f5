"""Compare predictors with each other and with published figures: a table and a figure.

    python analysis/protocols.py results/          # measures; then
    python analysis/predictors.py results/         # reads draws.parquet
    python analysis/predictors.py --page docs/benchmarks/predictors.md results/

The last draws the tables of that page, so that figure and table are of the same measurement.

Writes ``predictors.md`` (Kendall's tau, coverage and seconds) and ``predictors-PROTOCOL.svg``, tau
against the number of labels with its standard deviation over the draws, published figures as
points. The published figures are quoted, not measured again; NN-Former learns from the mean of
three runs and chooses its checkpoint on 200 further labels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nasplatform.atomic_io import write_text
from nasplatform.predictors.evaluation import summarise
from nasplatform.visualization import save, tau_against_labels

# protocol -> method -> labels -> Kendall's tau, from the papers' tables
PUBLISHED: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "tnasp": {
        "ReNAS": {424: 0.657, 4236: 0.816},
        "semi-supervised assessor": {1000: 0.654, 10000: 0.781},
        "TNASP (ranking loss)": {100: 0.676, 172: 0.691, 424: 0.747, 4236: 0.824},
        "PINAT (ranking loss)": {100: 0.717, 172: 0.764, 424: 0.812, 4236: 0.854},
        "NN-Former (easier labels)": {100: 0.709, 172: 0.765, 424: 0.809, 4236: 0.877},
    },
    "nb201": {
        "PINAT": {78: 0.549, 156: 0.631, 469: 0.706, 781: 0.761, 1563: 0.784},
        "HyperNAS": {78: 0.677, 156: 0.765, 469: 0.836},
        "NN-Former (easier labels)": {156: 0.804, 1563: 0.890},
    },
}
_COLUMNS = ("kendall", "kendall_unique", "coverage90", "fit_seconds", "query_seconds")


def comparison(summary: pd.DataFrame) -> str:
    """Return a markdown table of one protocol: what was measured, then what was published."""
    lines = ["| predictor | labels | draws | " + " | ".join(_COLUMNS) + " |"]
    lines.append("| --- " * (3 + len(_COLUMNS)) + "|")
    for row in summary.sort_values(["labels", "kendall_mean"]).to_dict("records"):
        cells = [_cell(row, column) for column in _COLUMNS]
        lines.append(
            f"| {row['predictor']} | {row['labels']} | {row['draws']} | {' | '.join(cells)} |"
        )
    protocol = str(summary["protocol"].iloc[0])
    for method, points in PUBLISHED.get(protocol, {}).items():
        for labels, tau in points.items():
            lines.append(f"| {method}, published | {labels} | | {tau:.3f} | | | | |")
    return "\n".join(lines)


def _cell(row: Mapping[Any, Any], column: str) -> str:
    mean, spread = row.get(f"{column}_mean"), row.get(f"{column}_std")
    if not isinstance(mean, float) or mean != mean:
        return ""
    if column.endswith("seconds"):
        return f"{mean:.2f}"
    return f"{mean:.4f} ± {spread:.4f}" if spread == spread else f"{mean:.4f}"


def figure(summary: pd.DataFrame, path: Path) -> None:
    """Draw tau against labels of one protocol, published figures as points."""
    protocol = str(summary["protocol"].iloc[0])
    ablation = summary["predictor"].str.contains(":")
    shown = summary[~ablation & (summary["predictor"] != "random")]
    quoted = {f"{name}, published": tau for name, tau in PUBLISHED.get(protocol, {}).items()}
    axes = tau_against_labels(shown, quoted)
    axes.set_title(f"Protocol {protocol}")
    save(axes, path)


def summary_of_page(text: str, protocol: str) -> pd.DataFrame:
    """Return what a page says of a protocol: its table whose first cell begins with the name.

    Columns: predictor, labels, kendall_mean, kendall_std (missing where the page has none). A row
    of two predictors has two values in each cell; published figures and those of untrained networks
    are left out. Raises ValueError where there is no such table.
    """
    lines = text[text.find(f"\n| `{protocol}`") + 1 :].split("\n\n")[0].splitlines()
    if len(lines) < 3 or not lines[0].startswith(f"| `{protocol}`"):
        raise ValueError(f"no table of protocol {protocol}")
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    labels = [int(cell.replace(",", "")) for cell in head[1:]]
    found = []
    for name, *cells in rows:
        if "published" in name or "untrained" in name:
            continue
        names = [part.strip(" `*").lower() for part in name.partition(" (")[0].split(" / ")]
        for n, cell in zip(labels, cells, strict=True):
            for one, value in zip(names, cell.strip("* ").split(" / "), strict=False):
                told, _, spread = value.partition(" ± ")
                if told:
                    std = float(spread) if spread else float("nan")
                    found.append((one, n, float(told), std))
    return pd.DataFrame(
        found, columns=["predictor", "labels", "kendall_mean", "kendall_std"]
    ).assign(protocol=protocol)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where figures are written")
    parser.add_argument("--page", type=Path, help="draw the tables of a page")
    given = parser.parse_args(arguments)
    folder: Path = given.folder
    if given.page is not None:
        text = given.page.read_text(encoding="utf-8")
        for name in PUBLISHED:
            figure(summary_of_page(text, name), folder / f"predictors-{name}.svg")
        return 0
    path = folder / "draws.parquet"
    if not path.exists():
        sys.stderr.write(f"error: {path} is missing: analysis/protocols.py measures it\n")
        return 2
    parts = ["# Predictors, measured and published", ""]
    for protocol, rows in pd.read_parquet(path).groupby("protocol", sort=False):
        summary = summarise(rows)
        figure(summary, folder / f"predictors-{protocol}.svg")
        parts += [f"## {protocol}", "", comparison(summary), ""]
    write_text(folder / "predictors.md", "\n".join(parts))
    sys.stdout.write("\n".join(parts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
