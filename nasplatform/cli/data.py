"""``nasplatform data``: the benchmark tables at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from nasplatform.cli.display import Display, emit, say, show, show_table
from nasplatform.cli.run import JsonFlag

app = typer.Typer(help="List, verify and build benchmark tables.", no_args_is_help=True)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the tables that can be searched by name."""
    from nasplatform.benchmarks.library import list_tables
    from nasplatform.benchmarks.table import read_table_card

    rows = [_row(name, path, read_table_card(path)) for name, path in list_tables().items()]
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["table", "space", "architectures", "metrics", "epochs", "seeds", "path"])


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Tables; all where none given.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read tables and compare them with the digests on their cards; exit 2 for a damaged one."""
    from nasplatform.benchmarks.library import list_tables, load_table
    from nasplatform.errors import DataError

    rows: list[dict[str, Any]] = []
    for name in names or list(list_tables()):
        say(f"reading {name}")
        try:
            table = load_table(name)
            rows.append({"table": name, "ok": True, "sha256": table.digest, "error": None})
        except DataError as error:
            rows.append({"table": name, "ok": False, "sha256": None, "error": str(error)})
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["table", "ok", "sha256", "error"])
    broken = [row for row in rows if not row["ok"]]
    if broken:
        raise DataError(str(broken[0]["error"]))


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Name of an embedded set-up, e.g. cells-digits.")],
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("data"),
    workers: Annotated[
        int, typer.Option(min=1, help="Processes.", show_default="all cores")
    ] = os.cpu_count() or 1,
    as_json: JsonFlag = False,
) -> None:
    """Train every network of an embedded set-up and write its table; resumes where it stopped."""
    from nasplatform.benchmarks.embedded import build as build_table
    from nasplatform.benchmarks.embedded import get_setup
    from nasplatform.runs.events import Event

    setup = get_setup(name)
    try:
        with Display() as display:
            path = build_table(
                setup,
                out,
                workers,
                lambda done, total: display(Event("build", done, total, f"training {name}")),
            )
    except KeyboardInterrupt:
        say("interrupted; what was trained is kept, the same command goes on from there")
        raise typer.Exit(130) from None
    if as_json:
        emit({"table": name, "path": path})
    else:
        show(f"table: {path}")


def _row(name: str, path: Path, card: dict[str, Any]) -> dict[str, Any]:
    return {
        "table": name,
        "space": card["space"]["name"],
        "architectures": card["architectures"],
        "metrics": ", ".join(card["metrics"]),
        "epochs": ", ".join(map(str, card["fidelities"])),
        "seeds": card["seeds"],
        "path": str(path),
        "licence": card.get("licence"),
        "sha256": card["sha256"],
    }
