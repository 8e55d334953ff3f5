"""What both kinds of file name, made and checked: the device, the data, and the stages."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch
from pydantic import BaseModel

from nasplatform import plugins
from nasplatform.config import Choice, FileConfig
from nasplatform.errors import ConfigError
from nasplatform.runtimes.choice import choose_runtime
from nasplatform.stages.base import Stage, check_order
from nasplatform.training.datasets import load_task
from nasplatform.training.task import Task
from nasplatform.yaml_source import Source

_VERSIONS = ("nasplatform", "numpy", "optuna", "scikit-learn", "torch")


def require_device(config: FileConfig, source: Source) -> None:
    """Raise ConfigError where this machine has no such device."""
    with source.blame("device"):
        if config.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"{config.device!r}: this machine offers no CUDA device; use cpu")


def check_runtime(config: FileConfig, source: Source) -> None:
    """Raise InputError for a runtime that is not known or not available here."""
    if config.runtime is not None:
        with source.blame("runtime"):
            choose_runtime(config.runtime)


def make_task(config: FileConfig, source: Source) -> Task | None:
    """Load the data; None where the file names none."""
    if config.task is None:
        return None
    with source.blame("task"):
        return load_task(config.task.dataset, config.task.options, "task")


def make_stages(config: FileConfig, source: Source, task: Task | None) -> tuple[Stage, ...]:
    """Return the stages; raise ConfigError for any that is wrong.

    Each is asked whether it can do its work on the task, before a search is paid for.
    """
    made = tuple(_stage(index, config, source, task) for index in range(len(config.stages)))
    with source.blame("stages"):
        check_order(made)
    return made


def _stage(index: int, config: FileConfig, source: Source, task: Task | None) -> Stage:
    stage = config.stages[index]
    with source.blame("stages", index):
        plugins.get("stages", stage.name)
        if task is None:
            raise ConfigError(f"stage {stage.name!r} needs data: add 'task: {{dataset: ...}}'")
    options = options_of("stages", stage, source, "stages", index)
    with source.blame("stages", index):
        made: Stage = plugins.make("stages", stage.name, options)
        made.check(task, config.device)
    return made


def options_of(kind: str, choice: Choice, source: Source, *section: str | int) -> Any:
    """Validate the options of a named plug-in against its ``Options``."""
    with source.blame(*section, "name"):
        plugin = plugins.get(kind, choice.name)
    return source.validate(plugin.Options, choice.options, *section)


def with_options(name: str, options: BaseModel) -> Choice:
    """Return a choice with every option written out, as values that JSON can hold."""
    return Choice(name=name, **options.model_dump(mode="json"))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the numbers of a run."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _VERSIONS},
    }
