"""Make every figure of the documentation anew that can be made within an hour; name the others.

    python analysis/figures.py            # or: make figures

A figure is measured into ``runs/figures`` (what is there already is not measured again), drawn, and
copied to its place in ``docs``. What needs longer, or data that is not here, is printed with its
command. Tables of numbers are made by the command that stands beside them on their page; those
commands are listed last.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nasplatform.atomic_io import replace_file
from nasplatform.benchmarks.registry import load_table
from nasplatform.errors import InputError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MEASURED = Path("runs/figures")
_HOUR = 60


@dataclass(frozen=True)
class Figure:
    """A picture in docs, and what makes it.

    picture: its name in ``docs``, and in ``runs/figures`` once it is made.
    command: arguments of Python; the last is the folder that it writes to, which is added.
    minutes: about, on one idle core, when nothing was measured yet.
    table:   that must be there; None for none.
    """

    picture: str
    command: str
    minutes: int
    table: str | None = None


FIGURES = (
    Figure(
        "predictors-tnasp.svg",
        "analysis/predictors.py --page docs/benchmarks/predictors.md",
        1,
    ),
    Figure(
        "searches-cells-digits-valid_accuracy.svg",
        "analysis/search_curves.py cells-digits valid_accuracy --predictor gp-trees --options "
        "--seeds 20 --out",
        10,
    ),
    Figure(
        "searches-nasbench201-c10_valid_accuracy.svg",
        "analysis/search_curves.py nasbench201 c10_valid_accuracy --samplers predictor random "
        "nsga2 tpe local-search regularized-evolution "
        "regularized-evolution:initial=10:population=10 --seeds 20 --out",
        40,
        "nasbench201",
    ),
)
DRAWN_BY_HAND = frozenset({"way.svg"})
"""Pictures without a figure: the way from a search file to a network."""


def missing(figure: Figure) -> str | None:
    """Return why a figure is not made now, None where nothing is in the way."""
    if figure.minutes > _HOUR:
        return f"takes about {figure.minutes} minutes"
    try:
        if figure.table is not None:
            load_table(figure.table)
    except InputError as error:
        return str(error)
    return None


def make(figure: Figure) -> None:
    """Make a figure and put it into its place."""
    (ROOT / MEASURED).mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, *shlex.split(figure.command), str(MEASURED)], check=True, cwd=ROOT
    )
    with replace_file(DOCS / figure.picture) as temporary:
        temporary.write_bytes((ROOT / MEASURED / figure.picture).read_bytes())


def commands_of_pages() -> Iterator[tuple[str, str]]:
    """Yield (page, command) of all measurements that the pages name."""
    for page in sorted(DOCS.glob("**/*.md")):
        text = re.sub(r"\\?\n", " ", page.read_text(encoding="utf-8"))
        for command in re.findall(r"python analysis/[^`|;]+(?=`)", text):
            yield page.relative_to(DOCS).as_posix(), " ".join(command.split())


def main() -> None:
    """Make what can be made, and say what else there is."""
    left = []
    for figure in FIGURES:
        line = f"python {figure.command} {MEASURED}"
        reason = missing(figure)
        if reason is not None:
            left.append(f"docs/{figure.picture}: {reason}\n  {line}")
            continue
        print(f"docs/{figure.picture}\n  {line}", flush=True)
        begun = time.perf_counter()
        make(figure)
        print(f"  {(time.perf_counter() - begun) / 60:.1f} minutes", flush=True)
    if left:
        print("\nNot made now:\n" + "\n".join(left))
    print("\nTables of numbers, by the commands on their pages:")
    for page, command in commands_of_pages():
        print(f"docs/{page}\n  {command}")


if __name__ == "__main__":
    main()
