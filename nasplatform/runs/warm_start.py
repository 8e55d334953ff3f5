"""Measurements of an earlier run of the same task, taken over instead of being made again.

They are the first trials of the new search, in the order of the earlier one: its sampler learns
from them, and they count in the budget as if they had been made here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.executors.store import Claim, EvaluationKey, EvaluationStore, open_store
from nasplatform.foreign import path_of
from nasplatform.runs import frames
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.resolved import ResolvedSearch
from nasplatform.search.identity import differences
from nasplatform.spaces.base import A

_LEASE = 60.0  # seconds, for a write that follows at once


@dataclass(frozen=True)
class WarmStart(Generic[A]):
    """What an earlier run has measured.

    architectures: in the order of its trials, each once.
    """

    architectures: tuple[A, ...]
    measurements: tuple[tuple[EvaluationKey, Evaluation], ...]

    def fill(self, store: EvaluationStore, seed: int) -> None:
        """Write the measurements into the store of a search of another seed."""
        for key, evaluation in self.measurements:
            claim = store.claim(replace(key, seed=seed), _LEASE)
            if isinstance(claim, Claim):
                store.finish(claim, evaluation)


def read_warm_start(path: Path, evaluator: Evaluator[A]) -> WarmStart[A]:
    """Read a run; raise RunError where none stands there, or one of another task."""
    folder = RunFolder(path_of(path, RunError))
    config = folder.read()
    if not isinstance(config, ResolvedSearch):
        raise RunError(f"{path}: started from a network, so it has measured no architecture")
    found, wanted = frames.evaluations(folder), evaluator.target_fidelity
    _require_same_task(path, config, evaluator)
    if len(others := found[found["fidelity"] != wanted]):
        epochs = others["fidelity"].iloc[0]
        raise RunError(f"{path}: measured after {epochs} epochs, this search after {wanted}")
    space, seen = evaluator.space, set[str]()
    described = json.dumps(space.describe(), sort_keys=True)
    architectures, measurements = [], []
    with open_store(config.storage or folder.measurements) as store:
        for row in found.sort_values("number").to_dict("records"):
            at = (int(row["fidelity"]), int(row["seed"]))
            key = EvaluationKey(described, evaluator.task, str(row["hash"]), *at)
            known = None if key.hash in seen else store.get(key)
            if known is None or known.error is not None or known.stopped is not None:
                continue
            seen.add(key.hash)
            architectures.append(space.parse(row["architecture"]))
            measurements.append((key, known))
    if not architectures:
        raise RunError(f"{path}: has measured nothing that could be taken over")
    return WarmStart(tuple(architectures), tuple(measurements))


def _require_same_task(path: Path, config: ResolvedSearch, evaluator: Evaluator[Any]) -> None:
    """Raise RunError that names the first difference."""
    there = {"space": config.space.model_dump(mode="json"), "task": config.provenance.measured}
    here = {"space": evaluator.space.describe(), "task": evaluator.task}
    differing = list(differences(*json.loads(json.dumps([there, here]))))
    if differing:
        raise RunError(f"{path}: its measurements are of another task: {differing[0]}")
