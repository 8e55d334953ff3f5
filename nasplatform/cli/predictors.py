"""``nasplatform predictors`` and ``nasplatform predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli.display import Display, emit, say, show, show_table
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    from nasplatform.spaces.base import Space

app = typer.Typer(
    help="List, inspect, fit and evaluate performance predictors.", no_args_is_help=True
)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the predictors that can be fitted, with their options and defaults."""
    from nasplatform import plugins

    rows = [_described(name, kind) for name, kind in plugins.working("predictors").items()]
    if as_json:
        emit(rows)
        return
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
    from nasplatform.runs.saved import load_predictor

    predictor, space = load_predictor(folder)
    card = {**predictor.card(), "space": space.describe()}
    card["graphs"].pop("vocabulary")
    if as_json:
        emit(card)
        return
    for key, value in card.items():
        show(f"{key}: {value}")


@app.command()
def fit(
    table: Annotated[str, typer.Option(help="Table with the labels, by name or path.")],
    out: Annotated[Path, typer.Option(help="Folder of the fitted predictor.")],
    predictor: Annotated[str, typer.Option(help="Which predictor; see `predictors list`.")],
    labels: Annotated[
        int | None, typer.Option(min=2, help="How many random labels; all where not given.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Column to learn.")] = "valid_accuracy",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and of the fit.")] = 0,
    force: Annotated[bool, typer.Option(help="Replace the predictor that stands there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fit a predictor to random labels of a table, and keep it."""
    from nasplatform import plugins
    from nasplatform.config import parse_overrides
    from nasplatform.errors import PredictorError
    from nasplatform.predictors.feature_scaling import unlabelled_of
    from nasplatform.runs.events import Event
    from nasplatform.runs.saved import save_predictor

    if out.exists() and not (force and (out / "card.json").is_file()):
        raise PredictorError(f"{out}: exists; --force replaces a predictor, nothing else")
    kind = plugins.get("predictors", predictor)
    options = plugins.make_options(kind.Options, parse_overrides(settings or []), predictor)
    made = kind(options, seed=seed)
    graphs, scores, space = _labels(table, metric, labels, seed)
    words = f"fitting {predictor} to {len(scores)} labels of {table}"
    with Display() as display:
        display(Event("fit", 0, 0, words))
        made.fit(
            graphs,
            scores,
            unlabelled_of(space, seed),
            lambda d, t: display(Event("fit", d, t, words)),
        )
    save_predictor(made, space, out)
    if as_json:
        emit({"folder": out, **made.card()})
    else:
        show(f"predictor: {out}")


@app.command()
def evaluate(
    predictor: Annotated[str, typer.Option("-p", "--predictor", help="See `predictors list`.")],
    protocol: Annotated[str, typer.Option(help="Label protocol: tnasp, nb201, digits, fashion.")],
    labels: Annotated[
        str | None, typer.Option(help="Label counts, e.g. 100,172; the protocol's own if absent.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Random draws of each count.")] = 10,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of it.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure how well a predictor ranks a benchmark, beside the simple ones."""
    from nasplatform import plugins
    from nasplatform.config import parse_overrides
    from nasplatform.predictors import evaluation
    from nasplatform.runs.events import Event

    kind = plugins.get("predictors", predictor)
    options = parse_overrides(settings or [])
    plugins.make_options(kind.Options, options, f"predictor {predictor!r}")
    chosen = evaluation.get_protocol(protocol)
    counts = _counts(labels) if labels else list(chosen.labels)
    say(f"{chosen.about} ({chosen.source})")
    words = f"{predictor} on {protocol}"
    with Display() as display:
        results = evaluation.evaluate(
            predictor,
            chosen,
            counts,
            seeds,
            options,
            lambda done, total: display(Event("evaluate", done, total, words)),
        )
    summary = evaluation.summarise(results)
    if as_json:
        emit({"summary": summary.to_dict("records"), "draws": results.to_dict("records")})
    else:
        show_table(evaluation.table(summary), evaluation.COLUMNS)


def predict(
    architectures: Annotated[list[str], typer.Argument(help="Text forms of architectures.")],
    folder: Annotated[
        Path, typer.Option("-p", "--predictor", help="Folder of a fitted predictor, or of a run.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Predict the scores of architectures with a fitted predictor."""
    from nasplatform.errors import ArchitectureError
    from nasplatform.runs.saved import load_predictor

    predictor, space = load_predictor(folder)
    parsed = []
    for index, text in enumerate(architectures):
        try:
            parsed.append(space.parse(text))
        except ArchitectureError as error:
            raise ArchitectureError(f"architecture {index + 1}: {error}") from None
    graphs = space.graphs(space.population(parsed))
    prediction = predictor.predict(graphs)
    rows = [
        {
            "architecture": text,
            "hash": architecture.hash,
            "mean": prediction.mean[i],
            "std": prediction.std[i],
            "params": graphs.total_params[i],
            "flops": graphs.total_flops[i],
        }
        for i, (text, architecture) in enumerate(zip(architectures, parsed, strict=True))
    ]
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["architecture", "mean", "std", "params", "flops"])


def _counts(text: str) -> list[int]:
    from nasplatform.errors import PredictorError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PredictorError(
            f"--labels {text!r}: expected numbers set apart by commas, e.g. 100,172"
        ) from None


def _described(name: str, kind: Any) -> dict[str, Any]:
    fields = kind.Options.model_fields.items()
    return {
        "name": name,
        "summary": kind.about(),
        "min_labels": kind.min_labels,
        "options": {key: None if f.is_required() else f.get_default() for key, f in fields},
        "meanings": {key: f.description for key, f in fields},
    }


def _labels(table: str, metric: str, count: int | None, seed: int) -> tuple[Any, Any, Space[Any]]:
    """Draw labelled architectures of a table: their graphs, their scores (B,), their space."""
    import numpy as np

    from nasplatform.benchmarks.registry import load_table
    from nasplatform.errors import DataError

    say(f"reading table {table}")
    found = load_table(table)
    values = found.values(metric)
    rows = np.flatnonzero(np.isfinite(values))
    if count is not None and count > len(rows):
        raise DataError(f"--labels {count}: table {table!r} has {len(rows)} values of {metric!r}")
    if count is not None:
        rows = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
    return found.space.graphs(found.architectures[rows]), values[rows], found.space
