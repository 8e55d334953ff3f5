"""``nasplatform results``: look at runs and take their numbers elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nasplatform.cli.display import emit, say, show, show_stages, show_table
from nasplatform.cli.run import JsonFlag

app = typer.Typer(help="Look at runs and export their numbers.", no_args_is_help=True)

ContactFlag = Annotated[
    bool, typer.Option("--contact", help="Ask the databases that unfinished runs name.")
]
RunsArgument = Annotated[Path, typer.Argument(help="A run, or a folder of runs.")]


class Format(StrEnum):
    """File formats of ``export``."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


@app.command("list")
def list_(
    path: RunsArgument = Path("runs"), contact: ContactFlag = False, as_json: JsonFlag = False
) -> None:
    """List runs: what was searched, how far they came, their best score."""
    from nasplatform.runs.frames import list_runs

    frame = list_runs(path, contact)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    if as_json:
        emit(rows)
        return
    columns = ["run", "sampler", "predictor", "seed", "state", "evaluations", "budget", "score"]
    columns += ["stages", "accuracy"]
    show_table(rows, columns)


@app.command()
def show_(
    path: Annotated[Path, typer.Argument(help="Folder of one run.")],
    top: Annotated[int, typer.Option(min=1, help="How many of the best to show.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Show one run: its best architectures and its stages."""
    from nasplatform.runs.run import Run

    run = Run(path)
    summary = run.summary()
    found = run.evaluations
    best = found[found["feasible"]].nlargest(top, "score").to_dict("records") if len(found) else []
    if as_json:
        emit({**summary, "top": best})
        return
    if best:
        columns = ["number", "source", "architecture", "score", "mean", "std", "params", "flops"]
        show_table(best, columns, title=f"the best of {len(found)} evaluations")
    show_stages(run.stages)
    show(f"report: {run.folder.report}")


app.registered_commands[-1].name = "show"


@app.command()
def export(
    path: RunsArgument,
    out: Annotated[Path, typer.Option(help="File to write; its ending decides the format.")],
    stages: Annotated[bool, typer.Option("--stages", help="The stages, not the search.")] = False,
    contact: ContactFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write every evaluation of one or many runs to a CSV, Parquet or JSON file."""
    from nasplatform.atomic_io import replace_file
    from nasplatform.errors import InputError, did_you_mean
    from nasplatform.runs.frames import read_runs, read_stages

    ending = out.suffix.removeprefix(".")
    if ending not in list(Format):
        raise InputError(f"--out {out}: unknown format {ending!r}{did_you_mean(ending, Format)}")
    frame = read_stages(path) if stages else read_runs(path, contact)
    with replace_file(out) as temporary:
        if ending == Format.CSV:
            frame.to_csv(temporary, index=False)
        elif ending == Format.PARQUET:
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_json(temporary, orient="records", date_format="iso", indent=1)
    say(f"wrote {len(frame)} rows to {out}")
    if as_json:
        emit({"file": out, "rows": len(frame), "columns": list(frame.columns)})
