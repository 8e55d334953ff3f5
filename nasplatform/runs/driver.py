"""A file from beginning to end: search and predictor or a given network, stages, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pandas as pd

from nasplatform.complaints import shortened
from nasplatform.config import load_compression, load_config
from nasplatform.errors import ConfigError, RunError
from nasplatform.evaluators.base import EvaluationContext
from nasplatform.executors.store import Unsent, open_store
from nasplatform.foreign import path_of, require_flags
from nasplatform.models.network import Network
from nasplatform.predictors.fitting import fit_on_space
from nasplatform.runs import epochs, frames, tables, timings
from nasplatform.runs.compression import Compression, make_compression
from nasplatform.runs.events import Event, Watch, nobody
from nasplatform.runs.experiment import Experiment, make_experiment
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.report import write_compression_report, write_search_report
from nasplatform.runs.resolved import dump_resolved
from nasplatform.runs.run import Run
from nasplatform.runs.saved import save_predictor
from nasplatform.search.identity import identity_of
from nasplatform.search.loop import search
from nasplatform.search.storage import await_study, open_study, require_storage, require_study
from nasplatform.search.trial_record import Step
from nasplatform.stages.pipeline import run_pipeline, stages_frame
from nasplatform.stages.remote import walk_elsewhere


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
    begun = time.perf_counter()
    _require_means(watch, resume, force)
    watch(Event("setup", 0, 0, f"checking {file}"))
    config, source = load_config(file, overrides)
    folder = _folder(out, config.name)
    tell = _progress(watch, "training")
    experiment = make_experiment(config, source, EvaluationContext(folder.work, progress=tell))
    data = [] if experiment.task is None else [experiment.task.summary()]
    for words in (*data, *experiment.notes):
        watch(Event("setup", 0, 0, words))
    folder.check(experiment.resolved(), resume, force)
    if resume:
        _require_budget(experiment, folder)
    with folder.claimed(experiment.resolved(), resume, force):
        timings.keep(folder, "setup", time.perf_counter() - begun)
        found = _search(experiment, folder, watch)
        _keep_predictor(experiment, folder, found, watch)
        _train_winner(experiment, folder, found, watch)
        _report(folder, lambda: write_search_report(experiment, folder), watch)
    return Run(folder.path)


def compress(
    file: Path | str,
    out: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    watch: Watch = nobody,
) -> Run:
    """Take the network of a file through its stages; arguments and errors are as of ``run``."""
    begun = time.perf_counter()
    _require_means(watch, resume, force)
    watch(Event("setup", 0, 0, f"checking {file}"))
    config, source = load_compression(file, overrides)
    folder = _folder(out, config.name)
    compression = make_compression(config, source)
    watch(Event("setup", 0, 0, compression.task.summary()))
    with folder.claimed(compression.resolved(), resume, force):
        timings.keep(folder, "setup", time.perf_counter() - begun)
        if not folder.stages.is_file():
            _walk_stages(compression, compression.network, folder, watch)
        _report(folder, lambda: write_compression_report(compression, folder), watch)
    return Run(folder.path)


def run_worker(
    file: Path | str,
    storage: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    wait: float = 0.0,
    watch: Watch = nobody,
) -> int:
    """Help with the search of a file that runs elsewhere, until its budget is spent.

    storage: the URL that all workers share. Stages and report are left to ``run`` with the same
             ``storage``.
    wait:    seconds until somebody has started the search.
    Returns how many evaluations were made here. Raises ConfigError as ``run`` does, RunError where
    nobody has started this search.
    """
    _require_means(watch)
    require_storage(storage)
    config, source = load_config(file, {**(overrides or {}), "storage": storage})
    with TemporaryDirectory() as folder:
        own = RunFolder(Path(folder))
        experiment = make_experiment(
            config, source, EvaluationContext(own.work, progress=_progress(watch, "training"))
        )
        watch(Event("setup", 0, 0, f"waiting for search {config.name!r}"))
        await_study(storage, config.name, wait)
        with _study(experiment, own) as study:
            return _spend_budget(experiment, own, study, watch)


def _require_means(watch: object, resume: object = False, force: object = False) -> None:
    """Raise ConfigError for arguments of Python that are not what they must be."""
    require_flags(ConfigError, resume=resume, force=force)
    if resume and force:
        raise ConfigError("resume and force exclude each other")
    if not callable(watch):
        raise ConfigError(f"watch: expected a function of an event, got {shortened(watch)}")


def _require_budget(experiment: Experiment, folder: RunFolder) -> None:
    """Raise RunError where a run that goes on has measured more than its budget pays for.

    Of what several share only the end is known here.
    """
    if experiment.config.storage is not None and not folder.evaluations.is_file():
        return
    measured, budget = frames.evaluations(folder)["hash"].nunique(), experiment.search.budget
    if measured > budget:
        raise RunError(
            f"{folder.path}: {measured} architectures are measured already, more than the budget "
            f"of {budget} pays for: give {measured} or more"
        )


def _search(experiment: Experiment, folder: RunFolder, watch: Watch) -> pd.DataFrame:
    """Spend the budget; return the evaluations."""
    if not folder.evaluations.is_file():
        with _study(experiment, folder) as study:
            _spend_budget(experiment, folder, study, watch)
            found = frames.study_frame(study, experiment.space)
            timings.keep_search(folder, study)
        shared = experiment.config.storage
        trained = epochs.of_search(shared or folder.measurements, experiment.resolved(), found)
        tables.write_frame(trained, folder.epochs)
        tables.write_frame(found, folder.evaluations)
    elif experiment.config.storage is None:
        require_study(folder.study, experiment.config.name, experiment.optimization.directions)
    return frames.evaluations(folder)


def _study(experiment: Experiment, folder: RunFolder) -> AbstractContextManager[optuna.Study]:
    """Open the study of the search, refused where it is another's."""
    return open_study(
        experiment.config.storage or folder.study,
        experiment.config.name,
        experiment.sampler,
        directions=experiment.optimization.directions,
        pruner=experiment.search.pruner,
        identity=identity_of(dump_resolved(experiment.resolved())),
    )


def _spend_budget(
    experiment: Experiment, folder: RunFolder, study: optuna.Study, watch: Watch
) -> int:
    """Search until a stopping rule says so; return how many measurements were made here."""
    wanted, task = experiment.search, experiment.evaluator.task
    budget = wanted.budget

    def tell(step: Step) -> None:
        best = "nothing yet" if step.best is None else f"{step.best:.4f}"
        latest = step.record.error or f"{step.record.score:.4f}"
        words = f"best {best}, latest {latest} ({step.record.source})"
        watch(Event("search", step.done, budget, words))

    watch(Event("search", 0, budget, f"{wanted.sampler.name} search on {task}"))
    shared = experiment.config.storage
    with (
        open_store(shared or folder.measurements) as store,
        experiment.make_executor(_progress(watch, "training")) as executor,
    ):
        if experiment.warm is not None:
            experiment.warm.fill(store, experiment.config.seed)
        return search(
            study,
            experiment.evaluator,
            store,
            budget,
            experiment.config.seed,
            tell,
            optimization=experiment.optimization,
            max_seconds=wanted.max_seconds,
            target=wanted.target,
            exclusive=shared is None,
            executor=executor,
            spec=experiment.spec,
            unsent=None if shared is None else Unsent.of_user(shared),
            resolved=json.dumps(dump_resolved(experiment.resolved())),
        )


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
    with timings.clock(folder, "predictor"):
        fit_on_space(
            experiment.predictor, experiment.space, architectures, labels["score"].to_numpy()
        )
    source = {
        "measured": experiment.evaluator.task,
        "metric": experiment.evaluator.score_metric,
        "epochs": experiment.evaluator.target_fidelity,
        "unit": "that of the evaluator's score, higher is better",
    }
    save_predictor(experiment.predictor, experiment.space, folder.predictor, source)
    watch(Event("predictor", 1, 1, f"kept in {folder.predictor}"))


def _train_winner(
    experiment: Experiment, folder: RunFolder, found: pd.DataFrame, watch: Watch
) -> None:
    """Take the winner through the stages."""
    if not experiment.stages or folder.stages.is_file():
        return
    best = frames.best_row(found)
    if best is None:
        raise RunError(f"{folder.path}: no evaluation gave a score, so there is no winner to train")
    architecture = experiment.built.parse(best["architecture"])
    folder.begin_stages(best["architecture"])
    watch(Event("stages", 0, 0, f"building the winner {best['architecture']}"))
    network = Network.of(experiment.built, architecture, experiment.config.seed)
    task, config = experiment.config.task, experiment.config
    assert task is not None  # stages were refused without it
    with experiment.make_executor(_progress(watch, "stages")) as executor:
        records = walk_elsewhere(
            executor,
            network.structure,
            (task.dataset, task.options),
            [(one.name, one.options.model_dump(mode="json")) for one in experiment.stages],
            folder.models,
            config.seed,
            config.device,
            config.runtime,
        )
    if records is None:
        _walk_stages(experiment, network, folder, watch)
    else:
        tables.write_frame(stages_frame(records), folder.stages)


def _walk_stages(
    made: Experiment | Compression, network: Network, folder: RunFolder, watch: Watch
) -> None:
    """Take a network through the stages of a file."""
    assert made.task is not None  # stages were refused without it
    _, records = run_pipeline(
        network,
        made.task,
        made.stages,
        folder.models,
        made.config.seed,
        made.config.device,
        _progress(watch, "stages"),
        made.config.runtime,
    )
    tables.write_frame(stages_frame(records), folder.stages)


def _folder(out: Path | str | None, name: str) -> RunFolder:
    return RunFolder(path_of(Path("runs") / name if out is None else out, RunError))


def _report(folder: RunFolder, write: Callable[[], None], watch: Watch) -> None:
    watch(Event("report", 0, 1, "writing report.html"))
    with timings.clock(folder, "report"):
        write()
    watch(Event("report", 1, 1, str(folder.report)))


def _progress(watch: Watch, phase: str) -> Callable[[int, int, str], None]:
    return lambda done, total, words: watch(Event(phase, done, total, words))
