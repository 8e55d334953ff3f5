"""Runs stages in order, measures before and after each, and goes on where it was killed.

The folder of a pipeline:

    start.json              measurements of the network that was given
    0-train/stage.json      what the stage was asked to do, written before it starts
    0-train/...             checkpoints and files of the stage itself
    0-train/network/        the network after the stage
    0-train/record.json     written last: the stage is finished
    1-disout/...
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nasplatform import plugins
from nasplatform.atomic_io import write_text
from nasplatform.errors import RunError, StageError
from nasplatform.models.check import checked
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Runtime
from nasplatform.runtimes.choice import choose_runtime
from nasplatform.runtimes.measure import Measurements, measure
from nasplatform.stages.base import (
    Stage,
    StageContext,
    StageResult,
    check_floats,
    check_order,
    check_result,
)
from nasplatform.training.checkpoint import state_digest
from nasplatform.training.loop import Progress
from nasplatform.training.task import Task

RECORD = "record.json"
Record = dict[str, Any]
"""One finished stage: index, stage, options, seed, seconds (of the process that finished it),
measuring (seconds), before and after (the fields of ``Measurements``), metrics, artifacts (relative
paths), notes (one line each), curve (of its training), key."""


def run_pipeline(
    network: Network,
    task: Task,
    stages: Sequence[Stage | tuple[str, Mapping[str, Any]]],
    folder: Path,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    runtime: str | None = None,
) -> tuple[Network, list[Record]]:
    """Run stages, made or as (registered name, options); return the last network and the records.

    Killed at any moment and called again with the same arguments, it loads the finished stages,
    resumes the unfinished one from its checkpoint, and returns what it would have returned. A stage
    that left no result may be called with other options, or be another one: it begins anew.
    runtime: in which accuracy and latency are measured; None for the best there is for each
    network. One that keeps networks in files of its own leaves one beside each network.
    Raises ConfigError or PluginError for stages that do not exist as written, NetworkError for a
    network that does not suit the task (see ``checked``), MissingExtraError for a runtime that is
    not available, before any is run; StageError where one changed nothing; RunError where the
    folder holds another pipeline.
    """
    made = [
        stage if isinstance(stage, Stage) else make_stage(*stage, f"stages[{index}]")
        for index, stage in enumerate(stages)
    ]
    check_order(made)
    choose_runtime(runtime)
    network = checked(network, task)
    engine = choose_runtime(runtime, network.module).name
    for index, stage in enumerate(made):
        if not stage.takes_bits:
            check_floats(network, stage.name)
        stage.check(task, device)
        stage.check_network(network, task, _names_before(made, index))
    weights = state_digest(network.module)
    key = _digest(network.structure.to_json(), weights, task.digest, seed, engine)
    before = _measured_start(network, task, folder / "start.json", key, engine)
    records = []
    earlier = EarlierNetworks(network)
    for index, stage in enumerate(made):
        key = _digest(key, stage.name, stage.options.model_dump_json())
        home = folder / f"{index}-{stage.name}"
        step = _Step(index, stage, task, home, seed, device, runtime, key)
        network, record = step.finished() or step.run(network, before, earlier, progress)
        earlier = earlier.after(stage.name, home)
        before = record["after"]
        records.append(record)
    return network, records


def make_stage(name: str, options: Mapping[str, Any], where: str) -> Stage:
    """Make a registered stage; ``where`` names its place in a search file for messages."""
    kind = plugins.get("stages", name)
    chosen = plugins.make_options(kind.Options, dict(options), f"{where}.{name}")
    stage: Stage = plugins.make("stages", name, chosen)
    return stage


def _names_before(stages: Sequence[Stage], index: int) -> list[str]:
    """Return the names of the networks that a stage will find."""
    before = [(stage.name, f"{i}-{stage.name}") for i, stage in enumerate(stages[:index])]
    return list(dict.fromkeys(["start", *(name for both in before for name in both)]))


def stage_record(folder: Path, index: int, name: str) -> Path:
    """Return the file in the folder of a pipeline that a stage leaves when it is finished."""
    return folder / f"{index}-{name}" / RECORD


def stages_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per stage.

    Columns: index, stage, options (JSON text), seed, seconds; ``before_`` and ``after_`` with the
    names of ``Measurements``; ``metric_`` with the names of the stage's own metrics.
    """
    rows = [
        {
            **{name: record[name] for name in ("index", "stage")},
            "options": json.dumps(record["options"], sort_keys=True),
            **{name: record[name] for name in ("seed", "seconds")},
            **{f"before_{name}": value for name, value in record["before"].items()},
            **{f"after_{name}": value for name, value in record["after"].items()},
            **{f"metric_{name}": value for name, value in record["metrics"].items()},
        }
        for record in records
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class EarlierNetworks(Mapping[str, Network]):
    """The networks that a run has passed through, read from disk when they are asked for.

    start:   what the first stage was given, under the name ``start``.
    folders: of finished stages, under the name of the stage (of several with one name, the last)
             and under that of the folder, e.g. ``0-train``.
    """

    start: Network
    folders: Mapping[str, Path] = field(default_factory=dict)

    def after(self, stage: str, folder: Path) -> EarlierNetworks:
        """Return the networks when one more stage is finished."""
        return replace(self, folders={**self.folders, stage: folder, folder.name: folder})

    def __getitem__(self, name: str) -> Network:
        return self.start if name == "start" else Network.load(self.folders[name] / "network")

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        return iter(("start", *self.folders))

    def __len__(self) -> int:
        return 1 + len(self.folders)


@dataclass(frozen=True)
class _Step:
    """One stage of a pipeline in its own folder."""

    index: int
    stage: Stage
    task: Task
    folder: Path
    seed: int
    device: str
    runtime: str | None
    key: str

    def finished(self) -> tuple[Network, Record] | None:
        """Return what the stage left when it was finished before, else None."""
        path = self.folder / RECORD
        record = _read(path, self.key)
        if record is None:
            self._clear()
            return None
        _read(self.folder / "stage.json", self.key)
        _check_record(record, path)
        _tidy(StageContext(self.folder))
        return Network.load(self.folder / "network"), record

    def _clear(self) -> None:
        """Remove what this stage began with other options, or another one in its place."""
        for folder in self.folder.parent.glob(f"{self.index}-*"):
            begun = folder / "stage.json"
            if (folder / RECORD).exists():
                raise _other(folder / RECORD)
            if folder != self.folder or (begun.exists() and _load(begun)["key"] != self.key):
                shutil.rmtree(folder)

    def run(
        self,
        network: Network,
        before: Mapping[str, Any],
        earlier: EarlierNetworks,
        progress: Progress | None,
    ) -> tuple[Network, Record]:
        """Run the stage, or what is left of it; save its network and then its record."""
        asked = {
            "index": self.index,
            "stage": self.stage.name,
            "options": self.stage.options.model_dump(mode="json"),
            "seed": self.seed,
            "key": self.key,
        }
        _write(self.folder / "stage.json", asked)
        if not self.stage.takes_bits:
            check_floats(network, self.stage.name)
        context = StageContext(self.folder, self.seed, self.device, self.runtime, networks=earlier)
        if progress:
            context = replace(context, progress=_prefixed(progress, self.stage.name))
        start = time.perf_counter()
        result = self.stage.apply(network, self.task, context)
        seconds = time.perf_counter() - start
        self._check(network, result)
        result.network.save(self.folder / "network")
        begun = time.perf_counter()
        after = measure(result.network, self.task, self.folder / "network", self.runtime)
        measuring = time.perf_counter() - begun
        result = self._written(result, after.runtime)
        record = asked | {
            "seconds": seconds,
            "measuring": measuring,
            "before": dict(before),
            "after": asdict(after),
            "metrics": dict(result.metrics),
            "artifacts": {
                name: str(path.relative_to(self.folder)) for name, path in result.artifacts.items()
            },
            "notes": list(result.notes),
            "curve": {name: _finite(values) for name, values in result.curve.items()},
        }
        _write(self.folder / RECORD, record)
        _tidy(context)
        return result.network, record

    def _written(self, result: StageResult, runtime: str) -> StageResult:
        """Add the file of the runtime that computed the network, where it keeps such files."""
        engine: Runtime = plugins.make("runtimes", runtime)
        if engine.suffix is None:
            return result
        path = self.folder / f"network{engine.suffix}"
        engine.write(result.network, path)
        sizes = {f"{runtime}_file_bytes": float(path.stat().st_size)}
        return replace(
            result,
            artifacts={**result.artifacts, runtime: path},
            metrics={**result.metrics, **sizes},
        )

    def _check(self, network: Network, result: StageResult) -> None:
        """Raise StageError where nothing was changed or a metric is no finite number."""
        check_result(result, self.stage.name, self.task)
        same_structure = result.network.structure == network.structure
        if same_structure and state_digest(result.network.module) == state_digest(network.module):
            given = result.network.module is network.module
            how = "returned the network that it was given: change a copy, as network.copy() makes"
            words = how if given else "changed nothing"
            raise StageError(f"stage {self.stage.name!r} {words}")


def _measured_start(
    network: Network, task: Task, path: Path, key: str, runtime: str
) -> Mapping[str, Any]:
    known = _read(path, key)
    if known is None:
        known = {"key": key, "measurements": asdict(measure(network, task, runtime=runtime))}
        _write(path, known)
    try:
        return asdict(_measurements(known["measurements"], path))
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _check_record(record: Record, path: Path) -> None:
    """Raise RunError unless a record has what later stages and ``stages_frame`` read of it."""
    try:
        for name in ("before", "after"):
            _measurements(record[name], path)
        stages_frame([record])
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _measurements(values: Mapping[str, Any], path: Path) -> Measurements:
    """Read measurements; raise RunError where they lack what older versions did not measure."""
    names, given = {field.name for field in fields(Measurements)}, set(values)
    if given and given < names:
        lacking = ", ".join(sorted(names - given))
        raise RunError(
            f"{path} is of an older version, which did not measure {lacking}; go on with that "
            f"version, or delete the folder of {path.name} to run anew"
        )
    return Measurements(**values)


def _finite(values: Sequence[float]) -> list[float | None]:
    """Return numbers as JSON has them: it knows neither infinite ones nor NaN."""
    return [value if math.isfinite(value) else None for value in values]


def _tidy(context: StageContext) -> None:
    """Delete what a finished stage does not need any more."""
    context.checkpoint.unlink(missing_ok=True)
    shutil.rmtree(context.scratch, ignore_errors=True)


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} is damaged: {error!r}; delete its folder to run anew")


def _prefixed(progress: Progress, name: str) -> Progress:
    return lambda done, total, words: progress(done, total, f"{name}: {words}")


def _read(path: Path, key: str) -> Record | None:
    """Read a JSON file of this pipeline; None where it is not there yet."""
    if not path.exists():
        return None
    found = _load(path)
    if found["key"] != key:
        raise _other(path)
    return found


def _load(path: Path) -> Record:
    """Read a JSON file of any pipeline."""
    try:
        found: Record = json.loads(path.read_text(encoding="utf-8"))
        found["key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    return found


def _other(path: Path) -> RunError:
    return RunError(
        f"{path} is of another pipeline (first weights, data, seed, runtime, or stages or options "
        f"up to this one differ); give another folder or delete this one"
    )


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
