"""The table of the embedded benchmarks: their ceiling, and what simple counts explain.

    python analysis/embedded_benchmarks.py

Prints the Markdown table of docs/benchmarks/tables.md.
"""

from __future__ import annotations

from nasplatform.benchmarks.registry import load_table
from nasplatform.benchmarks.statistics import describe_table
from nasplatform.benchmarks.table import BenchmarkTable

TABLES = ("cells-digits", "cells-fashion", "chains-digits", "vit-digits")
HEADER = (
    "| table | architectures | trained networks | epochs | ceiling (tau) | parameters | FLOPs "
    "| conv3x3 or blocks | worst, median, best validation accuracy |"
)


def row(table: BenchmarkTable) -> str:
    """Return the Markdown row of a table."""
    found = describe_table(table)
    ceiling = "; ".join(f"{tau:.3f} ({which})" for which, tau in found["ceiling"].items())
    correlation, quantiles = found["correlation"], found["quantiles"]
    counts = correlation.get("conv3x3", correlation.get("blocks"))
    runs = table.measurements["valid_accuracy"][:, -1]
    counted = int((runs == runs).sum())  # NaN where a run was not made
    spread = ", ".join(f"{quantiles[q]:.3f}" for q in ("0.0", "0.5", "1.0"))
    epochs = ", ".join(map(str, table.fidelities))
    return (
        f"| `{table.name}` | {len(table):,} | {counted:,} | {epochs} | {ceiling} "
        f"| {correlation['params']:.3f} | {correlation['flops']:.3f} "
        f"| {counts:.3f} | {spread} |"
    )


def main() -> None:
    """Print the table."""
    print(HEADER)
    print("|" + "---|" * (HEADER.count("|") - 1))
    for name in TABLES:
        print(row(load_table(name)))


if __name__ == "__main__":
    main()
