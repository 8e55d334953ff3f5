"""Networks as single files: writing, reading and measuring them, whatever runtime they are for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nasplatform import plugins
from nasplatform.atomic_io import replace_file
from nasplatform.errors import BuildError, InputError, MissingExtraError, NetworkError
from nasplatform.models.network import Network
from nasplatform.models.structure import describe_input
from nasplatform.runtimes.base import Deployed, Runtime
from nasplatform.runtimes.choice import Chosen, check_session, check_words
from nasplatform.runtimes.measure import (
    MANY,
    Measurements,
    accuracy,
    latency_fields,
    timed_batches,
)
from nasplatform.runtimes.onnx_export import export_onnx
from nasplatform.runtimes.onnx_file import SUFFIX as ONNX
from nasplatform.runtimes.onnx_file import OnnxFile, read_onnx
from nasplatform.training.task import Task

CHECKED_IMAGES = 8


def deploy(network: Network, path: Path) -> float:
    """Write a network as one file, of the kind that its ending says, compared with torch first.

    Returns the largest difference of logits of 8 random images from torch's. Raises InputError for
    an ending that no runtime has, NetworkError where the network does not know its images,
    BuildError where the runtime cannot express it or answers otherwise; no file is written then.
    """
    check_ending(path)
    if path.suffix == ONNX:
        return export_onnx(network, path)
    runtime = _runtimes()[path.suffix]
    with replace_file(path) as temporary:
        runtime.write(network, temporary)
        found = _read(runtime, temporary)
        try:
            return check_session(found.session, network.module, found.input_shape, CHECKED_IMAGES)
        except BuildError as error:
            raise BuildError(f"{path} is not written: {error}") from None


def check_ending(path: Path) -> None:
    """Raise InputError where no runtime keeps networks in files of such a name."""
    known = [ONNX, *sorted(_runtimes())]
    if path.suffix not in known:
        raise InputError(f"{path} must end in {' or '.join(known)}, which says what is written")


def is_deployed(path: Path) -> bool:
    """Say whether a path is by its ending a file that ``open_deployed`` reads."""
    return path.suffix in _runtimes() and not path.is_dir()


def open_deployed(path: Path) -> Deployed:
    """Make ready a network of one file, for one thread.

    Raises RunError where it is missing or damaged, MissingExtraError where its runtime is.
    """
    runtime = _runtimes()[path.suffix]
    why = runtime.available()
    if why is not None:
        raise MissingExtraError(f"{path} needs the runtime {runtime.name!r}, which {why}")
    return _read(runtime, path)


def _read(runtime: Runtime, path: Path) -> Deployed:
    """Read a file; raise BuildError where a third party's runtime makes something else of it."""
    found: object = runtime.read(path)
    if not isinstance(found, Deployed):
        made = type(found).__name__
        raise BuildError(f"runtime {runtime.name!r} reads a {made}, expected a Deployed")
    try:
        check_words(found.session)
    except BuildError as error:
        raise BuildError(f"runtime {runtime.name!r}: {error}") from None
    return found


def open_for_images(path: Path) -> Deployed | OnnxFile:
    """Make ready a network of one file, an exported ONNX file among them; see ``open_deployed``."""
    return read_onnx(path) if path.suffix.lower() == ONNX else open_deployed(path)


def is_for_images(path: Path) -> bool:
    """Say whether a path is by its ending a file that ``open_for_images`` reads."""
    return is_deployed(path) or (path.suffix.lower() == ONNX and not path.is_dir())


def measure_deployed(path: Path, task: Task | None = None) -> Measurements:
    """Measure a network of one file; its accuracy is NaN without a task.

    Raises NetworkError for a task whose images are of another shape, or standardised otherwise.
    """
    found = open_deployed(path)
    if task is not None:
        check_task(found.input_shape, found.input, task)
    chosen = Chosen(found.session, found.session.note)
    one, many = timed_batches(chosen, found.input_shape, (1, MANY))
    return Measurements(
        accuracy=math.nan if task is None else accuracy(found.session, task),
        bytes_on_disk=path.stat().st_size,
        **latency_fields(one, many),
        **asdict(found.costs),
    )


def check_task(
    input_shape: tuple[int, int, int], known: Mapping[str, Any] | None, task: Task
) -> None:
    """Raise NetworkError where a task's images are not those that a network was trained on.

    known: as ``Structure.input`` says it; other data of the same kind pass.
    """
    if task.input_shape != input_shape:
        raise NetworkError(
            f"the network takes images {input_shape}, those of {task.name} are {task.input_shape}"
        )
    if known is None:
        return
    theirs = describe_input(task)
    for name in ("classes", "class_names", "mean", "std"):
        if known.get(name) != theirs.get(name):
            raise NetworkError(
                f"the network was trained on {known['task']} with {name} {known.get(name)}, "
                f"{task.name} has {theirs.get(name)}"
            )


def _runtimes() -> dict[str, Runtime]:
    """Return the runtimes that keep networks in files, by ending."""
    every: list[Runtime] = [kind() for kind in plugins.working("runtimes").values()]
    return {runtime.suffix: runtime for runtime in every if runtime.suffix is not None}
