"""The typed model of a search file, and of one that starts from a network instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from nasplatform import plugins
from nasplatform.errors import ConfigError, PluginError
from nasplatform.foreign import path_of
from nasplatform.yaml_source import Source, read_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICE = re.compile(r"cpu|cuda(:[0-9]+)?")


class Choice(BaseModel):
    """A plug-in by its name; its own options stand beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})


class TaskChoice(BaseModel):
    """A data set by its name; its own options stand beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    dataset: str

    @property
    def options(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})


class NetworkChoice(BaseModel):
    """A network by its registered name, its options beside it, or a function of the user's own.

    name:     a registered network; its own options stand beside the name.
    function: ``module:function``, annotated ``-> nn.Module``; importable from the file's folder or
              the working directory.
    options:  keyword arguments of the function.
    weights:  a file of its weights (see ``load_weights``); without one they follow from the seed.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = None
    function: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    weights: Path | None = None

    @property
    def own_options(self) -> dict[str, Any]:
        """The options of the network or of the function."""
        return dict(self.options if self.name is None else self.model_extra or {})

    @property
    def title(self) -> str:
        """What the network is called."""
        return str(self.name or self.function)

    @model_validator(mode="after")
    def _one_of_two(self) -> NetworkChoice:
        beside = sorted(self.model_extra or {})
        if (self.name is None) == (self.function is None):
            raise ValueError("expected either 'name' or 'function'")
        if self.name is not None and self.options:
            raise ValueError("the options of a named network stand beside its name")
        if self.function is not None and beside:
            raise ValueError(f"write {beside[0]!r} below 'options': they are the function's own")
        return self


class SearchOptions(BaseModel):
    """The section ``search``: what is searched, how long, and by which sampler.

    sampler:     by name, its own options beside it: ``{name: predictor, batch: 5}``.
    budget:      unique architectures that are evaluated in all.
    enqueue:     text forms of architectures that are evaluated first.
    warm_start:  folder of an earlier run of the same task, whose measurements are taken over.
    max_seconds: the search ends after this time, however much of the budget is left.
    target:      the search ends as soon as a score is at least this.
    objectives:  what is searched beside the score, name -> ``minimize`` or ``maximize``: params,
                 flops, or an attribute or metric of the evaluator.
    constraints: what must be kept: ``max_NAME`` or ``min_NAME`` -> bound.
    pruner:      which of Optuna's pruners stops a hopeless training early; needs an evaluator that
                 really trains.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampler: Choice = Choice(name="predictor")
    budget: int = Field(ge=1)
    enqueue: tuple[str, ...] = ()
    warm_start: Path | None = None
    max_seconds: float | None = Field(default=None, gt=0)
    target: float | None = Field(default=None, allow_inf_nan=False)
    objectives: dict[str, Literal["minimize", "maximize"]] = Field(default_factory=dict)
    constraints: dict[str, FiniteFloat] = Field(default_factory=dict)
    pruner: Literal["none", "median", "halving"] = "none"


class Provenance(BaseModel):
    """Where the numbers of a run come from; written into the copy that its folder keeps.

    measured: what the evaluator measures, or the data set of the stages.
    metric:   which metric the score of a search is; with a minus where it is its negative.
    data:     digest of the data of the stages.
    weights:  digest of the file of weights that a network came with.
    versions: of Python and of the libraries that decide the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measured: str
    metric: str | None = None
    data: str | None = None
    weights: str | None = None
    versions: dict[str, str]


class FileConfig(BaseModel):
    """What every file has.

    name:       of the run, and of its folder below ``runs/`` where none is given.
    seed:       the source of everything random in the search and the stages.
    task:       the data for the stages.
    stages:     what the network walks through, in order.
    device:     where the stages train, ``cpu`` or ``cuda``.
    runtime:    what computes the network where latency and accuracy are measured, e.g.
                ``onnxruntime`` or ``torch``; by default the best there is for each network.
    provenance: stands in the copy that a run folder keeps; a file that is run may lack it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**31)
    task: TaskChoice | None = None
    stages: tuple[Choice, ...] = ()
    device: str = "cpu"
    runtime: str | None = None
    provenance: Provenance | None = None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("expected letters, digits, '.', '_' and '-', a letter or digit first")
        return name

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError("expected 'cpu', 'cuda' or 'cuda:NUMBER'")
        return device


class SearchConfig(FileConfig):
    """A search file: it finds a network and takes it through the stages.

    space:     may be left out where the evaluator's table says which space it holds.
    evaluator: what measures an architecture.
    predictor: what learns from the measurements; needed by the sampler ``predictor``.
    search:    the sampler, its budget, and what is searched for.
    executor:  where the evaluator works, ``{name: inline}`` or ``{name: process, workers: 4}``.
    storage:   where several machines share the study, ``postgresql+psycopg://...``, or
               ``journal:///FILE`` on a shared disk; by default an SQLite file in the run folder.
               A password in it is never shown or kept: a run that goes on takes it from PGPASSWORD
               or ~/.pgpass, or from the file or ``--set`` again.
    checkpoints: where trainings are kept on the way, so that another machine goes on with one that
               was lost: a path that all share, or a URL of fsspec, ``s3://...``; by default a
               folder of the run.
    """

    space: Choice | None = None
    evaluator: Choice
    predictor: Choice | None = None
    search: SearchOptions
    executor: Choice = Choice(name="inline")
    storage: str | None = None
    checkpoints: str | None = Field(None, min_length=1)


class CompressionConfig(FileConfig):
    """A file that takes a network, which no search found, through the stages.

    network: where the walk begins.
    """

    network: NetworkChoice
    task: TaskChoice
    stages: tuple[Choice, ...] = Field(min_length=1)


def load_config(
    file: Path | str, overrides: Mapping[str, Any] | None = None
) -> tuple[SearchConfig, Source]:
    """Read a search file.

    overrides: dotted key -> value, e.g. ``{"search.budget": 20, "stages.0.epochs": 3}``.
    Raises ConfigError with file, line and key for anything that cannot be right.
    """
    values, source = read_yaml(path_of(file, ConfigError), overrides)
    if _starts_from_a_network(values, source):
        with source.blame("network"):
            raise ConfigError(f"starts from a network, not a search: nasplatform compress {file}")
    _require_nested_sampler(values, source)
    return source.validate(SearchConfig, values), source


def load_compression(
    file: Path | str, overrides: Mapping[str, Any] | None = None
) -> tuple[CompressionConfig, Source]:
    """Read a file that starts from a network; overrides and errors are as of ``load_config``."""
    values, source = read_yaml(path_of(file, ConfigError), overrides)
    if not _starts_from_a_network(values, source) and "search" in values:
        with source.blame("search"):
            raise ConfigError(f"starts from a search, not a network: nasplatform run {file}")
    return source.validate(CompressionConfig, values), source


def _starts_from_a_network(values: Mapping[str, Any], source: Source) -> bool:
    """Return whether ``network`` is given; raise ConfigError where keys of a search are, too."""
    own = SearchConfig.model_fields.keys() - CompressionConfig.model_fields.keys()
    beside = [key for key in values if key in own]
    if "network" in values and beside:
        with source.blame("network"):
            raise ConfigError(f"excludes {beside[0]!r}: a file starts from a network or a search")
    return "network" in values


def _sampler_options(name: Any) -> Collection[str]:
    """Return the keys that a sampler takes; none where no sampler has that name."""
    try:
        fields: Mapping[str, object] = plugins.get("samplers", name).Options.model_fields
    except PluginError:
        return ()
    return fields


def _require_nested_sampler(values: Mapping[str, Any], source: Source) -> None:
    """Raise ConfigError where a sampler's options do not stand beside its name."""
    search = values.get("search")
    if not isinstance(search, dict):
        return
    sampler = search.get("sampler", {})
    flat = [key for key in search if key not in SearchOptions.model_fields]
    mistyped = [key for key in flat if get_close_matches(str(key), SearchOptions.model_fields, n=1)]
    named = isinstance(sampler, str)
    if not named and (not flat or mistyped):
        return
    nested = sampler if isinstance(sampler, dict) else {}
    name = sampler if named else nested.get("name", "predictor")
    known = _sampler_options(name)
    options = [f"{key}: {search[key]}" for key in flat if key in known and key not in mistyped]
    if not named and not options:
        return
    with source.blame("search", "sampler" if named else flat[0]):
        written = ", ".join([f"name: {name}", *options])
        raise ConfigError(f"a sampler's options stand beside its name: sampler: {{{written}}}")
