"""``report.html``: one page without any other file, to look at a run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasplatform.atomic_io import write_text
from nasplatform.errors import PredictorError, RunError
from nasplatform.foreign import blaming
from nasplatform.runs import frames
from nasplatform.runs.compression import Compression
from nasplatform.runs.experiment import Experiment
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.report_network import TextTable, network_sections, with_error
from nasplatform.runs.saved import load_predictor
from nasplatform.runs.walk import runtime_words, stage_walk, without_bits
from nasplatform.search.baseline import RandomCurve, random_search_curve
from nasplatform.search.trials import covered
from nasplatform.training.task import Task
from nasplatform.visualization import drawing, svg
from nasplatform.visualization.searches import best_of_run

_POINTS = 800  # most points of the scatter; the tau is over all
_TOP = 8
_STAGE_FORMATS = {
    "network": ("network", "{}"),
    "accuracy": ("test accuracy", "{}"),
    "params": ("parameters", "{:,.0f}"),
    "macs": ("multiply-adds", "{:,.0f}"),
    "binary_macs": ("binary multiply-adds", "{:,.0f}"),
    "bytes_on_disk": ("bytes on disk", "{:,.0f}"),
    "latency_ms": ("ms, 1 image", "{:.3f}"),
    "latency_64_ms": ("ms, 64 images", "{:.3f}"),
    "seconds": ("seconds", "{:,.1f}"),
    "runtime": ("runtime", "{}"),
}


@dataclass(frozen=True)
class Comparison:
    """What the predictor said beside what was measured, both (n,), and the words for it."""

    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    names: list[str]
    words: str


def write_search_report(experiment: Experiment, folder: RunFolder) -> None:
    """Write the page of a run whose search (and stages, if any) are finished."""
    content = _search_content(experiment, folder)
    _write(content, folder, experiment.task, experiment.config.device)


def write_compression_report(compression: Compression, folder: RunFolder) -> None:
    """Write the page of a run whose network has walked all its stages."""
    config, stages = compression.config, frames.stages(folder)
    walk = " and ".join(stage.name for stage in config.stages)
    content = {
        "title": config.name,
        "lead": f"{config.network.title} on {config.task.dataset} through {walk}, "
        f"seed {config.seed}",
        "about": _about(folder, compression.task),
        "facts": _compression_facts(stages, compression.task),
        "searched": False,
    }
    _write(content, folder, compression.task, config.device)


def _write(content: dict[str, Any], folder: RunFolder, task: Task | None, device: str) -> None:
    stages = frames.stages(folder)
    walk = stage_walk(stages)
    every = {
        "stages": _stage_table(walk, task),
        "runtimes": runtime_words(walk),
        "resolved": folder.resolved.read_text(encoding="utf-8"),
        **network_sections(folder, task, stages, device),
    }
    write_text(folder.report, page_of({**every, **content}))


def page_of(content: dict[str, Any]) -> str:
    """Return the page: its template with all that it asks for."""
    source = files("nasplatform.runs").joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source).render(content, colours=drawing.page_colours())


def _about(
    folder: RunFolder, task: Task | None, measured: str | None = None
) -> list[tuple[str, str]]:
    """Return what a reader asks first: what was measured, on what data, when, for how long."""
    found, stages = frames.evaluations(folder), frames.stages(folder)
    began = frames.began(folder, found)
    spent = []
    if len(found):
        spans = found[["started", "ended"]].dropna().itertuples(index=False, name=None)
        spent.append(f"search {_span(covered(spans))}")
    if len(stages):
        spent.append(f"stages {_span(float(stages['seconds'].sum()))}")
    return [
        *([("score", measured)] if measured else []),
        *([("data", task.summary())] if task else []),
        ("began", f"{began:%d %B %Y, %H:%M} UTC"),
        *([("took", ", ".join(spent))] if spent else []),
    ]


def _span(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _search_content(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    found = frames.evaluations(folder)
    best = frames.best_row(found)
    if best is None:
        raise RunError(f"{folder.path}: no evaluation gave a score, so there is nothing to report")
    curve = best_of_run(found)
    random = _random(experiment, len(curve))
    comparison = _compare(experiment, folder, found)
    return {
        "title": experiment.config.name,
        "lead": _lead(experiment),
        "about": _about(folder, experiment.task, experiment.evaluator.words()),
        "facts": _search_facts(experiment, found, best, frames.stages(folder)),
        "searched": True,
        "metric": experiment.evaluator.score_metric,
        "curve": svg.curve_chart(curve, random, experiment.evaluator.score_metric),
        "random": random is not None,
        "curve_note": _curve_words(curve, random),
        "scatter": comparison and _scatter(comparison),
        "scatter_note": _scatter_words(comparison),
        "fronts": _fronts(experiment, found),
        "front": _front_table(experiment, found),
        "cell": drawing.cell_drawing(
            experiment.space.graphs([experiment.space.parse(best["architecture"])])
        ),
        "architecture": best["architecture"],
        "best": _best_table(found),
    }


def _lead(experiment: Experiment) -> str:
    predictor = experiment.predictor
    learnt = f" with predictor {predictor.name}" if predictor else ""
    return (
        f"Search in space {experiment.space.name} by sampler {experiment.search.sampler.name}"
        f"{learnt}, seed {experiment.config.seed}"
    )


def _known(experiment: Experiment) -> NDArray[np.float64] | None:
    """Return the scores of all that the search may find, where a table knows them."""
    known, candidates = (
        experiment.evaluator.known_scores(experiment.config.seed),
        experiment.evaluator.candidates,
    )
    if known is None or candidates is None:
        return None
    allowed: NDArray[np.float64] = known[experiment.optimization.feasible_mask(candidates)]
    return allowed


def _random(experiment: Experiment, budget: int) -> RandomCurve | None:
    known = _known(experiment)
    return None if known is None else random_search_curve(known, min(budget, len(known)))


def _curve_words(curve: NDArray[np.float64], random: RandomCurve | None) -> str:
    words = f"Best after {len(curve)} evaluations: {curve[-1]:.4f}."
    if random is None:
        return f"{words} What random search would find is known only for tables."
    return (
        f"{words} Random search, computed exactly over all that was allowed: "
        f"{random.mean[-1]:.4f} on average, "
        f"quartiles {random.low[-1]:.4f} to {random.high[-1]:.4f}."
    )


def _compare(experiment: Experiment, folder: RunFolder, found: pd.DataFrame) -> Comparison | None:
    """Compare on everything that was not measured in the run, where a table knows it."""
    known, candidates = (
        experiment.evaluator.known_scores(experiment.config.seed),
        experiment.evaluator.candidates,
    )
    if known is not None and candidates is not None and folder.predictor.is_dir():
        seen = experiment.space.population(
            [experiment.space.parse(t) for t in found["architecture"]]
        )
        fresh = np.flatnonzero(~np.isin(candidates.keys, seen.keys))
        if len(fresh) >= 2:
            predictor, space = load_predictor(folder.predictor)
            with blaming(folder.predictor, PredictorError, "cannot predict"):
                predicted = predictor.predict(space.graphs(candidates[fresh])).mean
            tau = float(kendalltau(predicted, known[fresh])[0])
            shown = np.random.default_rng(0).permutation(len(fresh))[:_POINTS]
            words = (
                f"Kendall tau {tau:.3f} on all {len(fresh):,} architectures of the table that "
                f"were not measured in this run; {len(shown):,} of them are drawn."
            )
            names = [space.format(candidates[int(fresh[i])]) for i in shown]
            return Comparison(predicted[shown], known[fresh][shown], names, words)
    return _compare_proposals(found)


def _compare_proposals(found: pd.DataFrame) -> Comparison | None:
    """Compare what was predicted of each proposal before it was measured."""
    rows = found.dropna(subset=["mean", "score"])
    if len(rows) < 2:
        return None
    predicted, measured = rows["mean"].to_numpy(), rows["score"].to_numpy()
    tau = float(kendalltau(predicted, measured)[0])
    words = f"Kendall tau {tau:.3f} between prediction and measurement of {len(rows)} proposals."
    return Comparison(predicted, measured, list(rows["architecture"]), words)


def _scatter_words(comparison: Comparison | None) -> str:
    if comparison is None:
        return "There is no predictor to compare."
    low, _ = svg.scatter_span(comparison.predicted, comparison.measured)
    below = int(((comparison.predicted < low) | (comparison.measured < low)).sum())
    edge = f" {below} that lie below stand on the edge." if below else ""
    return f"{comparison.words}{edge} On the dotted line prediction and measurement agree."


def _scatter(comparison: Comparison) -> str:
    return svg.scatter_chart(comparison.predicted, comparison.measured, comparison.names)


def _fronts(experiment: Experiment, found: pd.DataFrame) -> list[tuple[str, str]]:
    """Return a chart for each objective beside the score."""
    charted = []
    for name in experiment.optimization.objectives:
        column = frames.column_of(found, name)
        rows = found.dropna(subset=["score", column])
        objective, scores = rows[column].to_numpy(float), rows["score"].to_numpy(float)
        chart = svg.front_chart(objective, scores, rows["pareto"].to_numpy(bool), name)
        charted.append((_words(name), chart))
    return charted


def _front_table(experiment: Experiment, found: pd.DataFrame) -> TextTable | None:
    """Return the architectures on the front, None for a single objective."""
    rows = frames.front(found)
    if rows.empty:
        return None
    wanted = {name: frames.column_of(found, name) for name in experiment.optimization.objectives}
    cells = [
        [
            row["architecture"],
            f"{row['score']:.4f}",
            *(f"{row[column]:,.6g}" for column in wanted.values()),
            str(row["number"]),
        ]
        for row in rows.to_dict("records")
    ]
    return TextTable(["architecture", "score", *map(_words, wanted), "trial (from 0)"], cells)


def _search_facts(
    experiment: Experiment, found: pd.DataFrame, best: dict[str, Any], stages: pd.DataFrame
) -> list[tuple[str, str]]:
    facts = [
        (f"best {experiment.evaluator.score_metric}", f"{best['score']:.4f}"),
        ("networks evaluated", f"{found['hash'].nunique():,}"),
        ("parameters of the winner", f"{best['params']:,.0f}"),
        ("FLOPs of the winner (2 per multiply-add)", f"{best['flops']:,.0f}"),
    ]
    known = _known(experiment)
    if known is not None:
        rank = int((known > best["score"] + 1e-9).sum()) + 1
        facts.insert(1, (f"rank among {len(known):,} in the table", f"{rank:,}"))
    if not stages.empty:
        accuracy = with_error(stages.iloc[-1]["after_accuracy"], experiment.task)
        facts.append(("test accuracy of the network", accuracy))
    return facts


def _compression_facts(stages: pd.DataFrame, task: Task) -> list[tuple[str, str]]:
    first, last = stages.iloc[0], stages.iloc[-1]
    accuracy = with_error(last["after_accuracy"], task)
    facts = [("test accuracy of the network", accuracy)]
    for name in ("params", "macs", "latency_ms"):
        share = last[f"after_{name}"] / first[f"before_{name}"]
        facts.append((f"{_words(name)}, of those at the start", f"{share:.0%}"))
    return facts


def _words(name: str) -> str:
    return name.replace("_", " ")


def _best_table(found: pd.DataFrame) -> TextTable:
    rows = found[found["feasible"]].nlargest(_TOP, "score")
    return TextTable(
        ["architecture", "score", "predicted", "trial (from 0)", "source"],
        [
            [
                row["architecture"],
                f"{row['score']:.4f}",
                "" if pd.isna(row["mean"]) else f"{row['mean']:.4f}",
                str(row["number"]),
                row["source"],
            ]
            for row in rows.to_dict("records")
        ],
    )


def _stage_table(walk: pd.DataFrame, task: Task | None) -> TextTable:
    there = without_bits(walk)
    known = [(name, how) for name, how in _STAGE_FORMATS.items() if name in there]
    shown = walk.assign(accuracy=[with_error(share, task) for share in walk["accuracy"]])
    rows = [
        ["" if pd.isna(row[name]) else form.format(row[name]) for name, (_, form) in known]
        for row in shown.to_dict("records")
    ]
    return TextTable([title for _, (title, _) in known], rows)
