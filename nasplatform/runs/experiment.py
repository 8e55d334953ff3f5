"""From a search file to the objects that it names, each checked before anything is paid for."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
import torch

from nasplatform import plugins
from nasplatform.config import SearchConfig, SearchOptions, Source
from nasplatform.errors import ConfigError
from nasplatform.evaluators.base import EvaluationContext, Evaluator
from nasplatform.models.check import checked
from nasplatform.models.network import Network
from nasplatform.predictors.base import Predictor
from nasplatform.runtimes.choice import choose_runtime
from nasplatform.search.base import ArchitectureSampler, SamplerContext
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.storage import require_storage
from nasplatform.spaces import Space, get_space
from nasplatform.stages.base import Stage
from nasplatform.stages.pipeline import make_stage
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task

_VERSIONS = ("nasplatform", "numpy", "optuna", "scikit-learn", "torch")


@dataclass(frozen=True)
class Experiment:
    """Everything a search file names, made and checked.

    predictor:    not fitted yet; None where the file names none.
    optimization: further objectives, and limits.
    built:        the space in which the winner is built: the searched one, with the task's input.
    stages:       (name, options) of each stage.
    """

    config: SearchConfig
    space: Space[Any]
    evaluator: Evaluator[Any]
    predictor: Predictor | None
    options: SearchOptions
    optimization: OptimizationConfig[Any]
    sampler: ArchitectureSampler[Any]
    task: Task | None
    built: Space[Any]
    stages: tuple[tuple[str, dict[str, Any]], ...]

    def resolved(self) -> dict[str, Any]:
        """Return the search with every default written out, and where its numbers come from."""
        config = self.config
        found: dict[str, Any] = {
            "name": config.name,
            "seed": config.seed,
            "space": self.space.describe(),
            "evaluator": _with_options(self.evaluator.name, self.evaluator.options),
            "predictor": self.predictor
            and _with_options(self.predictor.name, self.predictor.options),
            "search": self.options.model_dump(mode="json"),
            "task": config.task and config.task.model_dump(mode="json"),
            "stages": [
                _with_options(name, make_stage(name, options, name).options)
                for name, options in self.stages
            ],
            "device": config.device,
            "runtime": config.runtime,
            "storage": config.storage,
            "provenance": {
                "measured": self.evaluator.task,
                "data": self.task and self.task.digest,
                "versions": {
                    "python": platform.python_version(),
                    **{name: metadata.version(name) for name in _VERSIONS},
                },
            },
        }
        return {key: value for key, value in found.items() if value not in (None, [])}


def make_experiment(config: SearchConfig, source: Source, context: EvaluationContext) -> Experiment:
    """Make all that a search file names; raise ConfigError with file, line and key.

    context: where the evaluator may work; its task is filled in here.
    """
    with source.blame("device"):
        if config.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"{config.device!r}: this machine offers no CUDA device; use cpu")
    if config.storage is not None:
        with source.blame("storage"):
            require_storage(config.storage)
    task = _task(config, source)
    if task is not None or config.runtime is not None:
        with source.blame("runtime"):
            runtime = choose_runtime(config.runtime).name
        config = config.model_copy(update={"runtime": runtime})
    context = replace(context, task=task, device=config.device, runtime=config.runtime)
    evaluator = _evaluator(config, source, context)
    space = evaluator.space
    predictor = _predictor(config, source)
    options, optimization, sampler = _sampler(config, source, evaluator, predictor)
    with source.blame("task"):
        built = space if task is None else space.with_input(task.input_shape, task.classes)
        if task is not None:
            _check_a_network(evaluator, built, task)
    stages = tuple(_stage(index, config, source) for index in range(len(config.stages)))
    return Experiment(
        config, space, evaluator, predictor, options, optimization, sampler, task, built, stages
    )


def _check_a_network(evaluator: Evaluator[Any], built: Space[Any], task: Task) -> None:
    """Raise NetworkError where a network of the space does not suit the task."""
    found = evaluator.candidates
    if found is None:
        found = evaluator.space.sample(1, np.random.Generator(np.random.PCG64(0)))
    text = evaluator.space.format(found[len(found) // 2])
    checked(Network.of(built, built.parse(text)), task)


def _stage(index: int, config: SearchConfig, source: Source) -> tuple[str, dict[str, Any]]:
    """Return name and options of a stage, which are right."""
    stage = config.stages[index]
    with source.blame("stages", index):
        kind: type[Stage] = plugins.get("stages", stage.name)
        if config.task is None:
            raise ConfigError(f"stage {stage.name!r} needs data: add 'task: {{dataset: ...}}'")
    source.validate(kind.Options, stage.options, "stages", index)
    return stage.name, stage.options


def _evaluator(config: SearchConfig, source: Source, context: EvaluationContext) -> Evaluator[Any]:
    options = _options("evaluators", config.evaluator, source, "evaluator")
    space = _space(config, options, source)
    with source.blame("evaluator"):
        kind: type[Evaluator[Any]] = plugins.get("evaluators", config.evaluator.name)
        return kind.from_options(options, space, context)


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
    options = _options("predictors", config.predictor, source, "predictor")
    kind: type[Predictor] = plugins.get("predictors", config.predictor.name)
    return kind(options, seed=config.seed)


def _sampler(
    config: SearchConfig,
    source: Source,
    evaluator: Evaluator[Any],
    predictor: Predictor | None,
) -> tuple[SearchOptions, OptimizationConfig[Any], ArchitectureSampler[Any]]:
    name = config.search.get("sampler", SearchOptions.model_fields["sampler"].default)
    with source.blame("search", "sampler"):
        kind: type[ArchitectureSampler[Any]] = plugins.get("samplers", str(name))
    options = source.validate(kind.Options, config.search, "search")
    candidates = evaluator.candidates
    with source.blame("search", "budget"):
        if candidates is not None and options.budget > len(candidates):
            raise ConfigError(
                f"{options.budget} evaluations asked for, evaluator {evaluator.name!r} can "
                f"measure {len(candidates)} architectures"
            )
    with source.blame("search"):
        if options.pruner != "none" and not evaluator.stops_early:
            raise ConfigError(f"evaluator {evaluator.name!r} trains nothing to prune: drop pruner")
        optimization = OptimizationConfig.of(options, evaluator)
        context = SamplerContext(evaluator.space, config.seed, candidates, predictor, optimization)
        return options, optimization, kind.from_options(options, context)


def _task(config: SearchConfig, source: Source) -> Task | None:
    if config.task is None:
        return None
    with source.blame("task"):
        return load_task(config.task.dataset, config.task.options, "task")


def _options(kind: str, choice: Any, source: Source, section: str) -> Any:
    """Validate the options of a named plug-in against its ``Options``."""
    with source.blame(section, "name"):
        plugin = plugins.get(kind, choice.name)
    return source.validate(plugin.Options, choice.options, section)


def _with_options(name: str, options: Any) -> dict[str, Any]:
    return {"name": name, **options.model_dump(mode="json")}
