"""Take a network through its stages wherever an executor has the work done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasplatform.errors import RunError
from nasplatform.executors import Executor
from nasplatform.models.network import Network
from nasplatform.models.structure import Structure
from nasplatform.stages.pipeline import Record, run_pipeline
from nasplatform.training.datasets import load_task
from nasplatform.training.loop import Progress

_WALK = f"{__name__}:walk"


def walk_elsewhere(
    executor: Executor,
    structure: Structure,
    task: tuple[str, Mapping[str, Any]],
    stages: Sequence[tuple[str, Mapping[str, Any]]],
    folder: Path,
    seed: int,
    device: str,
    runtime: str | None,
) -> list[Record] | None:
    """Have an executor take a fresh network through stages; None where it leaves that to us.

    task:   name of the data set and its options.
    folder: of the pipeline, which must be the same folder where the work is done.
    Returns what ``run_pipeline`` does. Raises what it raises, and RunError where the networks are
    not here afterwards.
    """
    payload = {
        "structure": structure.to_json(),
        "task": [task[0], dict(task[1])],
        "stages": [[name, dict(options)] for name, options in stages],
        "folder": str(folder.absolute()),
        **{"seed": seed, "device": device, "runtime": runtime},
    }
    done = executor.call(_WALK, payload)
    if done is None:
        return None
    records: list[Record] = done["records"]
    for record in records:
        network = folder / f"{record['index']}-{record['stage']}" / "network"
        if not network.is_dir():
            raise RunError(
                f"{network}: made on another machine, which has another folder of that name; "
                f"give an --out that all machines share"
            )
    return records


def walk(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Do here what ``walk_elsewhere`` asks for."""
    seed, (dataset, options) = payload["seed"], payload["task"]
    network = Network.from_structure(Structure.from_json(payload["structure"]), seed)
    _, records = run_pipeline(
        network,
        load_task(dataset, options, "task"),
        [(name, chosen) for name, chosen in payload["stages"]],
        Path(payload["folder"]),
        seed,
        payload["device"],
        progress,
        payload["runtime"],
    )
    return {"records": records}
