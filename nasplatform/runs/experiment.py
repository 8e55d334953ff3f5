"""From a search file to the objects that it names, each checked before anything is paid for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from nasplatform import plugins
from nasplatform.config import Choice, Provenance, SearchConfig, SearchOptions
from nasplatform.errors import ConfigError
from nasplatform.evaluators.base import EvaluationContext, Evaluator
from nasplatform.executors import EvaluatorSpec, Executor, ExecutorContext
from nasplatform.models.check import checked
from nasplatform.models.network import Network
from nasplatform.passwords import without_password
from nasplatform.predictors.base import Predictor
from nasplatform.runs.components import (
    check_runtime,
    make_stages,
    make_task,
    options_of,
    require_device,
    versions,
    with_options,
)
from nasplatform.runs.resolved import ResolvedSearch
from nasplatform.runs.warm_start import WarmStart, read_warm_start
from nasplatform.search.base import ArchitectureSampler, SamplerContext
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.storage import require_storage
from nasplatform.spaces import Space, get_space
from nasplatform.stages.base import Stage
from nasplatform.training.shelf import open_shelf
from nasplatform.training.task import Task
from nasplatform.yaml_source import Source


@dataclass(frozen=True)
class Experiment:
    """Everything a search file names, made and checked.

    predictor:    not fitted yet; None where the file names none.
    search:       with every option of the sampler, and each architecture enqueued once.
    optimization: further objectives, and limits.
    built:        the space in which the winner is built: the searched one, with the task's input.
    stages:       what the winner walks through.
    spec:         how to make the evaluator elsewhere.
    warm:         what an earlier run has measured; None without one.
    executor:     options of the executor, an instance of its ``Options``.
    notes:        what was left out of the file, and how texts in it were read, in words.
    """

    config: SearchConfig
    space: Space[Any]
    evaluator: Evaluator[Any]
    predictor: Predictor | None
    search: SearchOptions
    optimization: OptimizationConfig[Any]
    sampler: ArchitectureSampler[Any]
    task: Task | None
    built: Space[Any]
    stages: tuple[Stage, ...]
    spec: EvaluatorSpec
    warm: WarmStart[Any] | None
    executor: BaseModel
    notes: tuple[str, ...]

    def make_executor(self, progress: Callable[[int, int, str], None]) -> Executor:
        """Make what measures; the evaluator that was made here is at hand for it."""
        context = ExecutorContext(progress, {self.spec.key: self.evaluator})
        name = self.config.executor.name
        executor: Executor = plugins.make("executors", name, self.executor, context)
        return executor

    def resolved(self) -> ResolvedSearch:
        """Return the search with every default written out, and where its numbers come from."""
        predictor, config = self.predictor, self.config
        return ResolvedSearch(
            name=config.name,
            seed=config.seed,
            space=Choice(**self.space.describe()),
            evaluator=with_options(self.evaluator.name, self.evaluator.options),
            predictor=predictor and with_options(predictor.name, predictor.options),
            search=self.search,
            task=config.task,
            stages=tuple(with_options(stage.name, stage.options) for stage in self.stages),
            device=config.device,
            runtime=config.runtime,
            executor=with_options(config.executor.name, self.executor),
            storage=config.storage and without_password(config.storage),
            checkpoints=config.checkpoints and without_password(config.checkpoints),
            provenance=Provenance(
                measured=self.evaluator.task,
                metric=self.evaluator.score_metric,
                data=self.task and self.task.digest,
                versions=versions(),
            ),
        )


def make_experiment(config: SearchConfig, source: Source, context: EvaluationContext) -> Experiment:
    """Make all that a search file names; raise ConfigError with file, line and key.

    context: where the evaluator may work; its task is filled in here.
    """
    require_device(config, source)
    if config.storage is not None:
        with source.blame("storage"):
            require_storage(config.storage)
    task = make_task(config, source)
    check_runtime(config, source)
    context = replace(
        context,
        task=task,
        device=config.device,
        runtime=config.runtime,
        checkpoints=_checkpoints(config, source),
    )
    evaluator = _evaluator(config, source, context)
    space = evaluator.space
    predictor = _predictor(config, source)
    optimization = _optimization(config, source, evaluator)
    known = SamplerContext(space, config.seed, evaluator.candidates, predictor, optimization)
    options, sampler = _sampler(config, source, known)
    enqueued, notes = _enqueued(config, source, evaluator)
    warm = _warm_start(config, source, evaluator, enqueued)
    sampler.enqueue([*enqueued, *(warm.architectures if warm else ())])
    search = config.search.model_copy(
        update={
            "sampler": with_options(sampler.name, options),
            "enqueue": tuple(space.format(one) for one in enqueued),
        }
    )
    stages = make_stages(config, source, task)
    with source.blame("task"):
        built = space if task is None else space.with_input(task.input_shape, task.classes)
        if task is not None:
            _check_a_network(evaluator, built, task)
    return Experiment(
        config=config,
        space=space,
        evaluator=evaluator,
        predictor=predictor,
        search=search,
        optimization=optimization,
        sampler=sampler,
        task=task,
        built=built,
        stages=stages,
        spec=EvaluatorSpec.of(
            evaluator,
            task=config.task and config.task.model_dump(mode="json"),
            device=config.device,
            runtime=config.runtime,
            folder=context.folder and str(context.folder.absolute()),
            checkpoints=context.checkpoints,
        ),
        warm=warm,
        executor=options_of("executors", config.executor, source, "executor"),
        notes=notes,
    )


def _checkpoints(config: SearchConfig, source: Source) -> str | None:
    """Return where checkpoints lie, a path as seen from anywhere; ConfigError for no such place."""
    place = config.checkpoints
    if place is None:
        return None
    with source.blame("checkpoints"):
        open_shelf(place)
    return place if "://" in place else str(Path(place).absolute())


def _check_a_network(evaluator: Evaluator[Any], built: Space[Any], task: Task) -> None:
    """Raise NetworkError where a network of the space does not suit the task."""
    found = evaluator.candidates
    if found is None:
        found = evaluator.space.sample(1, np.random.Generator(np.random.PCG64(0)))
    text = evaluator.space.format(found[len(found) // 2])
    checked(Network.of(built, built.parse(text)), task)


def _evaluator(config: SearchConfig, source: Source, context: EvaluationContext) -> Evaluator[Any]:
    options = options_of("evaluators", config.evaluator, source, "evaluator")
    space = _space(config, options, source)
    with source.blame("evaluator"):
        kind: type[Evaluator[Any]] = plugins.get("evaluators", config.evaluator.name)
        if kind.needs_task and context.task is not None:
            space = space.with_input(context.task.input_shape, context.task.classes)
        name = config.evaluator.name
        evaluator: Evaluator[Any] = plugins.make(
            "evaluators", name, options, space, context, by="from_options"
        )
        _check_evaluator(evaluator)
    return evaluator


def _check_evaluator(evaluator: Evaluator[Any]) -> None:
    """Raise ConfigError where an evaluator lacks what its measurements are known by."""
    who, fidelities = f"evaluator {evaluator.name!r}", getattr(evaluator, "fidelities", None)
    if not isinstance(getattr(evaluator, "task", None), str):
        raise ConfigError(f"{who} has no 'task', expected the name of what it measures")
    for method, names in (
        ("metrics", evaluator.metrics()),
        ("attribute_names", evaluator.attribute_names()),
    ):
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"{who}: {method}() returned {names!r:.60}, expected a tuple of names"
            )
    whole = isinstance(fidelities, tuple) and all(type(each) is int for each in fidelities)
    if not whole or not fidelities or list(fidelities) != sorted(set(fidelities)):
        raise ConfigError(
            f"{who} has the fidelities {fidelities!r}, expected whole numbers that ascend"
        )


def _space(config: SearchConfig, evaluator_options: Any, source: Source) -> Space[Any]:
    if config.space is not None:
        with source.blame("space"):
            return get_space(config.space.name, **config.space.options)
    with source.blame("evaluator"):
        kind: type[Evaluator[Any]] = plugins.get("evaluators", config.evaluator.name)
        implied = kind.implied_space(evaluator_options)
    if implied is None:
        raise ConfigError(f"{source.file}: space: this key is required by evaluator {kind.name!r}")
    return implied


def _predictor(config: SearchConfig, source: Source) -> Predictor | None:
    if config.predictor is None:
        return None
    options = options_of("predictors", config.predictor, source, "predictor")
    name = config.predictor.name
    with source.blame("predictor"):
        predictor: Predictor = plugins.make("predictors", name, options, seed=config.seed)
    return predictor


def _optimization(
    config: SearchConfig, source: Source, evaluator: Evaluator[Any]
) -> OptimizationConfig[Any]:
    search, candidates = config.search, evaluator.candidates
    with source.blame("search", "budget"):
        if candidates is not None and search.budget > len(candidates):
            raise ConfigError(
                f"{search.budget} evaluations asked for, evaluator {evaluator.name!r} can "
                f"measure {len(candidates)} architectures"
            )
    with source.blame("search"):
        if search.pruner != "none" and not evaluator.stops_early:
            raise ConfigError(f"evaluator {evaluator.name!r} trains nothing to prune: drop pruner")
        return OptimizationConfig.of(search, evaluator)


def _sampler(
    config: SearchConfig, source: Source, context: SamplerContext[Any]
) -> tuple[Any, ArchitectureSampler[Any]]:
    """Return the options of the sampler and the sampler."""
    chosen, budget = config.search.sampler, config.search.budget
    options = options_of("samplers", chosen, source, "search", "sampler")
    with source.blame("search", "sampler"):
        sampler: ArchitectureSampler[Any] = plugins.make(
            "samplers", chosen.name, options, context, by="from_options"
        )
    with source.blame("search", "budget"):
        if sampler.initial > budget:
            raise ConfigError(
                f"{budget} evaluations do not pay for the {sampler.initial} initial ones of "
                f"sampler {sampler.name!r}"
            )
    return options, sampler


def _warm_start(
    config: SearchConfig, source: Source, evaluator: Evaluator[Any], enqueued: list[Any]
) -> WarmStart[Any] | None:
    """Read what an earlier run has measured; raise ConfigError where the budget is too small."""
    search = config.search
    if search.warm_start is None:
        return None
    with source.blame("search", "warm_start"):
        found = read_warm_start(search.warm_start, evaluator)
        known = {one.hash for one in (*enqueued, *found.architectures)}
        if len(known) >= search.budget:
            raise ConfigError(
                f"{len(found.architectures)} measurements of {search.warm_start} count in the "
                f"budget of {search.budget}: give more than {len(known)}"
            )
    return found


def _enqueued(
    config: SearchConfig, source: Source, evaluator: Evaluator[Any]
) -> tuple[list[Any], tuple[str, ...]]:
    """Return what is evaluated first, each architecture once, and words on how they were read."""
    space, candidates, budget = evaluator.space, evaluator.candidates, config.search.budget
    first: dict[str, int] = {}
    found, notes = [], []
    for index, text in enumerate(config.search.enqueue):
        with source.blame("search", "enqueue", index):
            one = space.parse(text)
            keys = space.population([one]).keys
            if candidates is not None and not np.isin(keys, candidates.keys).all():
                raise ConfigError(f"evaluator {evaluator.name!r} cannot measure {text}")
        if one.hash in first:
            notes.append(
                f"enqueue.{index} is the architecture of enqueue.{first[one.hash]}: evaluated once"
            )
            continue
        first[one.hash] = index
        found.append(one)
    with source.blame("search", "enqueue"):
        if len(found) > budget:
            raise ConfigError(f"{len(found)} architectures, the budget pays for {budget}")
    if (words := space.caution(config.search.enqueue)) is not None:
        notes.append(f"enqueue: {words}")
    return found, tuple(notes)
