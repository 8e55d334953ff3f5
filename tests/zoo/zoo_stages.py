"""A member of the zoo through every stage, saved, loaded and exported."""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from zoo_members import CLASSES, MEMBERS, SHAPE, Member

from nasplatform.errors import NasplatformError
from nasplatform.models.network import Network
from nasplatform.runtimes import timing
from nasplatform.runtimes.onnx_export import export_onnx
from nasplatform.stages.pipeline import run_pipeline
from nasplatform.training.evaluation import predict
from nasplatform.training.preprocessing import standardised_task
from nasplatform.training.task import Task

ROOMS = (
    *("sums", "concats", "mobile", "norms", "functions", "shapes", "weights", "sequences", "odd"),
    "classics",
)
for _room in ROOMS:
    importlib.import_module(f"zoo_{_room}")

RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.01}
SCOP = {"recipe": RECIPE, "control": {"epochs": 1}, "knockoffs": {"diagnostic_steps": 2}}
STAGES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("train", {"recipe": RECIPE}),
    ("disout", {"recipe": RECIPE, "start": "given"}),
    ("scop", SCOP | {"rate": 0.3}),
    ("scop", SCOP | {"budget": {"keep": 0.8}, "round_to": 1}),
)
REPEATS = {"BLOCKS": 1, "TIMED_RUNS": 3, "WARM_UP_RUNS": 1}  # how fast is not asked here
COLUMNS = ("check", "train", "disout", "scop", "scop again", "save and load", "ONNX")


@dataclass
class Outcome:
    """What came of a member.

    words:   what to say of each of ``COLUMNS``, e.g. "result" or "refused".
    notes:   the whole lines.
    pins:    what the first pruning keeps, one line each.
    macs:    and params, shares that pruning leaves; 1 where nothing was pruned.
    """

    words: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    macs: float = 1.0
    params: float = 1.0

    @property
    def taken(self) -> bool:
        """Whether the check let the network through."""
        return self.words["check"] == "result"

    @property
    def pruned(self) -> bool:
        """Whether multiply-adds and parameters are fewer than before."""
        return self.macs < 1 and self.params < 1

    def refuse(self, column: str, error: Exception) -> None:
        """Note a line in which something is refused."""
        line = str(error)
        if "\n" in line.strip():
            raise AssertionError(f"not one line: {line}") from error
        self.words[column] = "refused"
        self.notes.append(f"{column}: {line}")


def zoo_task() -> Task:
    """Return four classes of noisy patterns, 3 x 16 x 16: 32 train, 16 valid, 16 test images."""
    rng = np.random.Generator(np.random.PCG64(7))
    patterns = rng.integers(0, 150, size=(CLASSES, *SHAPE))
    splits = []
    for count in (32, 16, 16):
        labels = np.arange(count, dtype=np.int64) % CLASSES
        splits.append((patterns[labels] + rng.integers(0, 100, size=(count, *SHAPE)), labels))
    return standardised_task("zoo", splits, "zoo")


def through_stages(member: Member, task: Task, folder: Path) -> Outcome:
    """Send a member through the stages; whatever is refused is left out, and the rest goes on.

    Anything else than a result or an error of the platform's own in one line is raised.
    """
    outcome = Outcome()
    stages = dict(zip(COLUMNS[1:5], STAGES, strict=True))
    with warnings.catch_warnings(), patch.multiple(timing, **REPEATS):
        warnings.simplefilter("ignore")  # of torch, about forms of its own that are old
        try:
            given = Network.from_function(member.path, {})
        except NasplatformError as error:
            outcome.refuse("check", error)
            return outcome
        while True:
            try:
                network, records = run_pipeline(given, task, list(stages.values()), folder)
                break
            except NasplatformError as error:
                if not (folder / "start.json").exists():
                    outcome.refuse("check", error)
                    return outcome
                index = len(list(folder.glob("*/record.json")))
                column = list(stages)[index]
                outcome.refuse(column, error)
                name, _ = stages.pop(column)
                shutil.rmtree(folder / f"{index}-{name}")
        outcome.words["check"] = "result"
        _judge(outcome, dict(zip(stages, records, strict=True)))
        _keep(outcome, network, task, folder)
    return outcome


def _judge(outcome: Outcome, records: Mapping[str, Mapping[str, Any]]) -> None:
    for column, record in records.items():
        outcome.words[column] = "result"
        for what in ("accuracy", "latency_ms", "latency_64_ms"):
            if not np.isfinite(record["after"][what]):
                raise AssertionError(f"{column}: {what} is {record['after'][what]}")
        if not column.startswith("scop"):
            continue
        before, after = record["before"], record["after"]
        outcome.macs *= after["macs"] / before["macs"]
        outcome.params *= after["params"] / before["params"]
        pins = [note for note in record["notes"] if note.startswith("pinned")]
        outcome.pins = outcome.pins or pins
        if pins:
            outcome.words[column] = f"result, {len(pins)} pinned"


def _keep(outcome: Outcome, network: Network, task: Task, folder: Path) -> None:
    """Save, load, compare and export."""
    network.save(folder / "kept")
    loaded = Network.load(folder / "kept")
    images = task.test.inputs[:]
    logits = predict(network.module, images)
    torch.testing.assert_close(predict(loaded.module, images), logits, rtol=1e-5, atol=1e-5)
    outcome.words["save and load"] = "result"
    try:
        export_onnx(loaded, folder / "network.onnx")
        outcome.words["ONNX"] = "result"
    except NasplatformError as error:
        outcome.refuse("ONNX", error)


def expected(member: Member, outcome: Outcome) -> str:
    """Return what is not as it ought to be, "" where all is."""
    if member.refused:
        right = not outcome.taken and any(member.refused in note for note in outcome.notes)
        return "" if right else f"expected a refusal with {member.refused!r}: {outcome}"
    if not outcome.taken or outcome.words["train"] != "result" or not outcome.pruned:
        return f"expected to be pruned: {outcome}"
    if member.pins and not any(member.pins in pin for pin in outcome.pins):
        return f"expected a pin with {member.pins!r}: {outcome}"
    if member.pins == "" and outcome.pins:
        return f"expected no pins: {outcome}"
    return ""


def every_member() -> list[Member]:
    """Return the whole zoo, by kind."""
    return list(MEMBERS.values())
