"""``nasplatform results``: look at runs and take their numbers elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasplatform.cli.display import emit, records, say, show, show_front, show_stages, show_table
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Look at runs and export their numbers.", no_args_is_help=True)

ContactFlag = Annotated[
    bool, typer.Option("--contact", help="Ask the databases that unfinished runs name.")
]
RunsArgument = Annotated[
    str, typer.Argument(help="A run, a folder of runs, or the URL of a storage.")
]


class Format(StrEnum):
    """File formats of ``export``."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


class Frame(StrEnum):
    """Frames of ``export``."""

    RUNS = "runs"
    EVALUATIONS = "evaluations"
    PREDICTIONS = "predictions"
    STAGES = "stages"
    EPOCHS = "epochs"
    TIMINGS = "timings"


@app.command("list")
def list_(
    path: RunsArgument = "runs", contact: ContactFlag = False, as_json: JsonFlag = False
) -> None:
    """List runs: what was searched, how far they came, their best score."""
    from nasplatform.runs.frames import list_runs

    frame = list_runs(path, contact)
    rows = records(frame)
    if as_json:
        emit(rows)
        return
    columns = ["run", "started", "sampler", "predictor", "seed", "state", "evaluations", "budget"]
    columns += ["metric", "score", *(["front"] if frame["front"].notna().any() else [])]
    columns += ["stages", "accuracy"]
    dated = [row | {"started": f"{row['started']:%Y-%m-%d %H:%M}"} for row in rows]
    show_table(dated, columns, title="times are UTC")


@app.command()
def show_(
    path: Annotated[
        Path | None, typer.Argument(help="Folder of one run; the newest below runs/ without.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best to show.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Show one run: its best architectures, its Pareto front and its stages."""
    from nasplatform.runs.frames import newest_run
    from nasplatform.runs.run import Run

    run = Run(newest_run("runs") if path is None else path)
    if path is None:
        say(f"newest: {run.folder.path}")
    summary = run.summary()
    found = run.evaluations
    best = found[found["feasible"]].nlargest(top, "score").to_dict("records") if len(found) else []
    if as_json:
        emit({**summary, "top": best})
        return
    if best:
        columns = ["number", "source", "architecture", "score", "mean", "std", "params", "flops"]
        show_table(best, columns, title=f"the best of {len(found)} evaluations")
    show_front(run)
    show_stages(run.stages)
    show(f"report: {run.folder.report}")


app.registered_commands[-1].name = "show"


@app.command()
def compare(
    paths: Annotated[list[Path], typer.Argument(help="Runs, or folders of runs.")],
    as_json: JsonFlag = False,
) -> None:
    """Set runs side by side: budget, score, accuracy after each stage, significance over seeds.

    Runs that differ by nothing but the seed are one setting; the gain of each is over the first
    one, on the seeds that both have, with the p-value of the paired t-test.
    """
    from nasplatform.runs.comparison import compare_runs, compare_settings

    runs = compare_runs(paths)
    settings = compare_settings(runs)
    if as_json:
        emit({"runs": records(runs), "settings": records(settings)})
        return
    dated = runs.assign(started=runs["started"].dt.strftime("%Y-%m-%d %H:%M"))
    show_table(records(dated), _known(dated), title="runs (times are UTC)")
    if len(settings) > 1 or settings["seeds"].max() > 1:
        show_table(records(settings), _known(settings), title="settings over seeds")


def _known(frame: pd.DataFrame) -> list[str]:
    """Return the columns in which any row has a value."""
    return [str(name) for name in frame.columns[frame.notna().any()]]


@app.command()
def export(
    path: RunsArgument,
    out: Annotated[Path, typer.Option(help="File to write; its ending decides the format.")],
    frame: Annotated[Frame, typer.Option(help="Which frame.")] = Frame.EVALUATIONS,
    force: Annotated[bool, typer.Option(help="Replace the file that stands there.")] = False,
    contact: ContactFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a frame of one or many runs to a CSV, Parquet or JSON file.

    Evaluations by default; the columns are in docs/reference/frames.md.
    """
    from nasplatform.atomic_io import replace_file
    from nasplatform.errors import InputError, did_you_mean
    from nasplatform.runs import frames

    ending = out.suffix.removeprefix(".").lower()
    if ending not in list(Format):
        known = did_you_mean(ending, Format) if ending else "; expected a name such as all.csv"
        raise InputError(f"--out {out}: unknown format {ending!r}{known}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and not (force and out.is_file()):
        raise InputError(f"--out {out}: stands there already; --force replaces a file")
    found = {
        Frame.RUNS: frames.list_runs,
        Frame.EVALUATIONS: frames.read_runs,
        Frame.PREDICTIONS: frames.read_predictions,
        Frame.STAGES: lambda path, _: frames.read_stages(path),
        Frame.EPOCHS: frames.read_epochs,
        Frame.TIMINGS: frames.read_timings,
    }[frame](path, contact)
    with replace_file(out) as temporary:
        if ending == Format.CSV:
            found.to_csv(temporary, index=False)
        elif ending == Format.PARQUET:
            found.to_parquet(temporary, index=False)
        else:
            found.to_json(temporary, orient="records", date_format="iso", indent=1)
    say(f"wrote {len(found)} rows to {out}")
    if as_json:
        emit({"file": out, "rows": len(found), "columns": list(found.columns)})
