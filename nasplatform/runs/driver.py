"""One search file from beginning to end: search, predictor, stages, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from nasplatform.config import load_config
from nasplatform.deploy.network import Network
from nasplatform.errors import RunError
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.predictors.fitting import fit_on_space
from nasplatform.runs import frames
from nasplatform.runs.events import Event, Watch, nobody
from nasplatform.runs.experiment import Experiment, make_experiment
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.report import write_report
from nasplatform.runs.saved import save_predictor
from nasplatform.search.loop import Step, search
from nasplatform.search.storage import open_study, require_study
from nasplatform.search.store import EvaluationStore
from nasplatform.stages.pipeline import run_pipeline, stages_frame


class Run:
    """What stands in the folder of a run, finished or not."""

    def __init__(self, folder: Path | str) -> None:
        """Take the folder; raise RunError where no run stands there."""
        self.folder = RunFolder(Path(folder))
        self.search = self.folder.read_search()

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation; the columns are those of ``read_runs`` without the run's own."""
        return frames.evaluations(self.folder)

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row per stage; the columns are those of ``stages_frame``."""
        return frames.stages(self.folder)

    @property
    def best(self) -> dict[str, Any]:
        """The evaluation with the highest score; RunError where nothing was measured yet."""
        found = frames.best_row(self.evaluations)
        if found is None:
            raise RunError(f"{self.folder.path}: nothing was measured yet; go on with --resume")
        return found

    def network(self) -> Network:
        """Load the network that the last stage left; raise RunError where there is none."""
        if self.stages.empty:
            raise RunError(f"{self.folder.path}: no stage was finished, so there is no network")
        last = self.stages.iloc[-1]
        return Network.load(self.folder.models / f"{last['index']}-{last['stage']}" / "network")

    def summary(self) -> dict[str, Any]:
        """Return the result in a few plain values."""
        best = self.best
        kept = ("number", "architecture", "hash", "score", "params", "flops")
        return {
            "run": str(self.folder.path),
            "evaluations": int(self.evaluations["hash"].nunique()),
            "score": best["score"],
            "best": {name: best[name] for name in kept},
            "stages": self.stages.to_dict("records"),
            "report": str(self.folder.report),
        }


def run(
    file: Path | str,
    out: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    watch: Watch = nobody,
) -> Run:
    """Do what a search file says; killed at any moment, the same call with ``resume`` goes on.

    out:       folder of the run, ``runs/NAME`` where not given.
    overrides: dotted key -> value, e.g. ``{"search.budget": 20}``.
    force:     remove the run that stands in the folder.
    watch:     called with each sign of life.
    Raises ConfigError for a file that cannot be right and RunError for a folder in the way, both
    before anything is paid for.
    """
    watch(Event("setup", 0, 0, f"checking {file}"))
    config, source = load_config(file, overrides)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / config.name)
    tell = _progress(watch, "training")
    experiment = make_experiment(config, source, EvaluationContext(folder.work, progress=tell))
    with folder.claimed(experiment.resolved(), resume, force):
        found = _search(experiment, folder, watch)
        _keep_predictor(experiment, folder, found, watch)
        _walk_stages(experiment, folder, found, watch)
        watch(Event("report", 0, 1, "writing report.html"))
        write_report(experiment, folder)
        watch(Event("report", 1, 1, str(folder.report)))
    return Run(folder.path)


def run_worker(
    file: Path | str,
    storage: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    watch: Watch = nobody,
) -> int:
    """Help with the search of a file that runs elsewhere, until its budget is spent.

    storage: the URL that all workers share; the study is made where it does not exist yet. Stages
    and report are left to ``run`` with the same ``storage``.
    Returns how many evaluations were made here. Raises ConfigError as ``run`` does.
    """
    config, source = load_config(file, {**(overrides or {}), "storage": storage})
    with TemporaryDirectory() as folder:
        own = RunFolder(Path(folder))
        experiment = make_experiment(
            config, source, EvaluationContext(own.work, progress=_progress(watch, "training"))
        )
        _spend_budget(experiment, own, watch)
        with EvaluationStore(own.measurements) as store:
            return len(store)


def _search(experiment: Experiment, folder: RunFolder, watch: Watch) -> pd.DataFrame:
    """Spend the budget; return the evaluations."""
    if not folder.evaluations.is_file():
        frames.write_frame(_spend_budget(experiment, folder, watch), folder.evaluations)
    elif experiment.config.storage is None:
        require_study(folder.study, experiment.config.name, experiment.optimization.directions)
    return frames.evaluations(folder)


def _spend_budget(experiment: Experiment, folder: RunFolder, watch: Watch) -> pd.DataFrame:
    budget, options = experiment.options.budget, experiment.options

    def tell(step: Step) -> None:
        best = "nothing yet" if step.best is None else f"{step.best:.4f}"
        latest = step.record.error or f"{step.record.score:.4f}"
        words = f"best {best}, latest {latest} ({step.record.source})"
        watch(Event("search", step.done, budget, words))

    watch(Event("search", 0, budget, f"{options.sampler} search on {experiment.evaluator.task}"))
    shared = experiment.config.storage
    with (
        open_study(
            shared or folder.study,
            experiment.config.name,
            experiment.sampler,
            directions=experiment.optimization.directions,
            pruner=options.pruner,
        ) as study,
        EvaluationStore(folder.measurements) as store,
    ):
        search(
            study,
            experiment.evaluator,
            store,
            budget,
            experiment.config.seed,
            tell,
            optimization=experiment.optimization,
            max_seconds=options.max_seconds,
            target=options.target,
            exclusive=shared is None,
        )
        return frames.study_frame(study, experiment.space)


def _keep_predictor(
    experiment: Experiment, folder: RunFolder, found: pd.DataFrame, watch: Watch
) -> None:
    """Fit the predictor to every label of the run, so that it can be asked later."""
    if experiment.predictor is None or folder.predictor.is_dir():
        return
    measured = found[found["stopped"].isna()]  # the score of a training given up is no label
    labels = measured.dropna(subset=["score"]).drop_duplicates("hash")
    watch(
        Event("predictor", 0, 1, f"fitting {experiment.predictor.name} to all {len(labels)} labels")
    )
    if len(labels) < experiment.predictor.min_labels or labels["score"].nunique() < 2:
        watch(Event("predictor", 1, 1, "too few different labels to keep a predictor"))
        return
    architectures = [experiment.space.parse(text) for text in labels["architecture"]]
    fit_on_space(experiment.predictor, experiment.space, architectures, labels["score"].to_numpy())
    save_predictor(experiment.predictor, experiment.space, folder.predictor)
    watch(Event("predictor", 1, 1, f"kept in {folder.predictor}"))


def _walk_stages(
    experiment: Experiment, folder: RunFolder, found: pd.DataFrame, watch: Watch
) -> None:
    """Take the winner through the stages."""
    if not experiment.stages or folder.stages.is_file():
        return
    assert experiment.task is not None
    best = frames.best_row(found)
    if best is None:
        raise RunError(f"{folder.path}: no evaluation gave a score, so there is no winner to train")
    architecture = experiment.built.parse(best["architecture"])
    watch(Event("stages", 0, 0, f"building the winner {best['architecture']}"))
    _, records = run_pipeline(
        Network.of(experiment.built, architecture, experiment.config.seed),
        experiment.task,
        experiment.stages,
        folder.models,
        experiment.config.seed,
        experiment.config.device,
        _progress(watch, "stages"),
    )
    frames.write_frame(stages_frame(records), folder.stages)


def _progress(watch: Watch, phase: str) -> Callable[[int, int, str], None]:
    return lambda done, total, words: watch(Event(phase, done, total, words))
