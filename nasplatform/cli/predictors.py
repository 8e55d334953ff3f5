"""``nasplatform predictors``: list, inspect, fit, evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli.display import emit, say, show, show_table, watched
from nasplatform.cli.imports import (
    ArchitectureOption,
    MinimizeFlag,
    ScoreOption,
    SkipFlag,
    SpaceOption,
    SpaceOptions,
    make_space,
)
from nasplatform.cli.run import JsonFlag
from nasplatform.cli.typed import plain_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasplatform.catalogue import Entry
    from nasplatform.predictors import Predictor
    from nasplatform.predictors.protocols import Protocol
    from nasplatform.spaces.base import Population, Space

app = typer.Typer(
    help="List, inspect, fit and evaluate performance predictors.", no_args_is_help=True
)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the predictors that can be fitted, with their options and defaults."""
    from nasplatform.catalogue import of_kind

    entries = of_kind("predictors", say).values()
    rows = [_described(entry) for entry in entries if entry.error is None]
    if as_json:
        emit(rows)
        return
    for entry in entries:
        if entry.error is not None:
            say(f"left out: {entry.error}")
    for row in rows:
        show(f"{row['name']}: {row['summary']}")
        for key, value in row["options"].items():
            meaning = row["meanings"][key]
            show(f"    {key} = {value}" + (f"  # {meaning}" if meaning else ""))


@app.command("show")
def show_(
    folder: Annotated[Path, typer.Argument(help="Folder of a fitted predictor, or of a run.")],
    as_json: JsonFlag = False,
) -> None:
    """Show the card of a fitted predictor."""
    from nasplatform.runs.saved import learnt_from, load_predictor

    predictor, space = load_predictor(folder)
    labels = learnt_from(folder) or "not known where they come from"
    card = {**predictor.card(), "labels": labels, "space": space.describe()}
    card["graphs"].pop("vocabulary")
    if as_json:
        emit(card)
        return
    for key, value in card.items():
        show(f"{key}: {value}")


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder of the fitted predictor.")],
    predictor: Annotated[str, typer.Option(help="Which predictor; see `predictors list`.")],
    table: Annotated[
        str | None, typer.Option(help="Table with the labels, by name or path.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Or a file of labels, with --space and --score.")
    ] = None,
    space: SpaceOption = None,
    option: SpaceOptions = None,
    score: ScoreOption = None,
    architecture: ArchitectureOption = None,
    minimize: MinimizeFlag = False,
    skip_bad: SkipFlag = False,
    labels: Annotated[
        int | None, typer.Option(min=2, help="How many random labels; all where not given.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Column of the table.", show_default="its score")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and of the fit.")] = 0,
    force: Annotated[bool, typer.Option(help="Replace the predictor that stands there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fit a predictor to labels of a table or a file, and keep it.

    Scores of which less is better are learnt, and predicted, with their sign turned.
    """
    from nasplatform.atomic_io import require_place
    from nasplatform.errors import PredictorError
    from nasplatform.predictors.fitting import fit_on_space
    from nasplatform.runs.saved import save_predictor

    if out.exists() and not (force and (out / "card.json").is_file()):
        raise PredictorError(f"{out}: exists; --force replaces a predictor, nothing else")
    require_place(out, PredictorError)
    made = _made(predictor, settings, seed)
    of_file = {
        "--architecture": architecture is not None,
        "--minimize": minimize,
        "--option": bool(option),
        "--skip-bad": skip_bad,
    }
    _require_none({"--metric": metric is not None} if csv else of_file, "table" if csv else "csv")
    if csv is not None and table is None and space is not None and score is not None:
        known = make_space(space, option)
        architectures, scores = _labels_of_file(csv, known, score, architecture, skip_bad)
        scores = -scores if minimize else scores
        unit = f"that of column {score!r}" + (", sign turned" if minimize else "")
        source = {"file": csv.name, "metric": score, "epochs": None, "unit": unit}
    elif table is not None and (csv, space, score) == (None, None, None):
        known, architectures, scores, source = _labels_of_table(table, metric)
    else:
        raise PredictorError("labels come from --table, or from --csv with --space and --score")
    rows = _drawn(len(scores), labels, seed)
    words = f"fitting {predictor} to {len(rows)} labels of {table or csv}"
    with watched("fit", words, "nothing was written") as progress:
        fit_on_space(made, known, architectures[rows], scores[rows], progress)
    save_predictor(made, known, out, source)
    if as_json:
        emit({"folder": out, **made.card()})
    else:
        show(f"predictor: {out}")


@app.command()
def evaluate(
    predictors: Annotated[
        str, typer.Option("-p", "--predictors", help="By comma; see `predictors list`.")
    ] = "default",
    protocol: Annotated[
        str | None, typer.Option(help="Label protocol, e.g. tnasp, nb201, autoformer-tiny, digits.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Or any table: a few of its rows against all the others.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Label counts, e.g. 100,172; the protocol's own if absent.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Random draws of each count.")] = 10,
    metric: Annotated[
        str | None, typer.Option(help="Column of the table.", show_default="its score")
    ] = None,
    fidelity: Annotated[
        int | None, typer.Option(help="Epochs.", show_default="the full training")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of a single predictor."),
    ] = None,
    as_json: JsonFlag = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the summary as CSV.")] = False,
) -> None:
    """Measure how well predictors rank the rest of a table, beside what they must beat.

    Mean and standard error over random draws of the labels, the same draws for all; the last
    column is the paired difference in Kendall's tau to the first predictor named.
    """
    from nasplatform.errors import PredictorError
    from nasplatform.predictors import evaluation
    from nasplatform.yaml_source import parse_overrides

    names = [name.strip() for name in predictors.split(",") if name.strip()]
    if not names:
        raise PredictorError("-p names no predictor; see `nasplatform predictors list`")
    if as_json and as_csv:
        raise PredictorError("--json and --csv exclude each other")
    if settings and len(names) != 1:
        raise PredictorError("--set is for one predictor: several are named")
    options = parse_overrides(settings or [])
    for name in names:
        _made(name, settings, 0)
    chosen = _protocol(protocol, table, _counts(labels) if labels else [], metric, fidelity)
    say(f"{chosen.about} ({chosen.source})")
    words = f"{', '.join(names)} on {chosen.name}"
    with watched("evaluate", words, "nothing was kept") as progress:
        results = evaluation.evaluate(
            dict.fromkeys(names, options), chosen, chosen.labels, draws, progress
        )
    summary = evaluation.summarise(results).merge(evaluation.paired(results, names[0]))
    if as_json:
        emit({"summary": summary.to_dict("records"), "draws": results.to_dict("records")})
    elif as_csv:
        sys.stdout.write(summary.to_csv(index=False))
    else:
        rows = evaluation.table(summary, "sem")
        gaps = evaluation.differences(summary)
        shown = [row | {f"tau - {names[0]}": gap} for row, gap in zip(rows, gaps, strict=True)]
        show_table(shown, list(shown[0]))


def _require_none(given: dict[str, bool], source: str) -> None:
    """Raise PredictorError for an option that only labels of another source have."""
    from nasplatform.errors import PredictorError

    for flag in (flag for flag, was_given in given.items() if was_given):
        raise PredictorError(f"{flag} is for labels from --{source}")


def _protocol(
    name: str | None,
    table: str | None,
    labels: list[int],
    metric: str | None,
    fidelity: int | None,
) -> Protocol:
    """Return the protocol that was asked for, with the label counts that were."""
    from nasplatform.errors import PredictorError
    from nasplatform.predictors.protocols import get_protocol, table_protocol

    if table is not None and name is None:
        if not labels:
            raise PredictorError("--table needs --labels, e.g. --labels 50,100")
        return table_protocol(table, tuple(labels), metric, fidelity)
    if name is None or table is not None:
        raise PredictorError("give --protocol NAME or --table NAME: one of them")
    if (metric, fidelity) != (None, None):
        raise PredictorError("--metric and --fidelity are for --table: a protocol has its own")
    known = get_protocol(name)
    return known.model_copy(update={"labels": tuple(labels)}) if labels else known


def _made(name: str, settings: list[str] | None, seed: int) -> Predictor:
    """Make a predictor with the options of ``--set``."""
    from nasplatform.predictors import get_predictor
    from nasplatform.yaml_source import parse_overrides

    return get_predictor(name, seed=seed, **parse_overrides(settings or []))


def _counts(text: str) -> list[int]:
    from nasplatform.errors import PredictorError

    try:
        return [int(plain_number(part)) for part in text.split(",")]
    except ValueError:
        raise PredictorError(
            f"--labels {text!r}: expected numbers set apart by commas, e.g. 100,172"
        ) from None


def _described(entry: Entry) -> dict[str, Any]:
    from nasplatform.options import options_in

    found = [one for one in options_in(entry.schema or {}) if "." not in one.key]
    return {
        "name": entry.name,
        "summary": entry.summary,
        "min_labels": entry.min_labels,
        "options": {one.key: one.default for one in found},
        "meanings": {one.key: one.meaning for one in found},
        "types": {one.key: one.type for one in found},
    }


def _labels_of_file(
    file: Path, space: Space[Any], score: str, architecture: str | None, skip_bad: bool
) -> tuple[Population[Any], NDArray[np.float64]]:
    """Read labels of a user's file: each architecture once, with the mean of its scores."""
    from nasplatform.benchmarks.imports.measured import quoted, read_measured

    found = read_measured(file, space, score, architecture, skip_bad)
    if found.bad:
        say(f"left out {quoted(found.bad, 'row')}")
    return found.averaged()


def _labels_of_table(
    table: str, metric: str | None
) -> tuple[Space[Any], Population[Any], NDArray[np.float64], dict[str, Any]]:
    """Return the space of a table, all its labels (B,), and what they are."""
    import numpy as np

    from nasplatform.benchmarks.registry import load_table

    say(f"reading table {table}")
    found = load_table(table)
    scores = found.scores(metric)
    rows = np.flatnonzero(np.isfinite(scores))
    name = metric or found.score
    unit = "fraction, 0 to 1" if "accuracy" in name else f"that of the table's {name!r}"
    if found.direction(name) == "minimize":
        unit += ", sign turned"
    source = {"table": table, "metric": name, "epochs": found.fidelities[-1], "unit": unit}
    return found.space, found.architectures[rows], scores[rows], source


def _drawn(known: int, count: int | None, seed: int) -> NDArray[np.intp]:
    """Draw ``count`` of the known labels, all of them for None."""
    import numpy as np

    from nasplatform.errors import DataError

    if count is None:
        return np.arange(known)
    if count > known:
        raise DataError(f"--labels {count}: there are {known:,} labels")
    return np.sort(np.random.default_rng(seed).choice(known, count, replace=False))
