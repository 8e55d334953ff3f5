"""The toy plug-in on the path, and a short way to run a search on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

TOY = Path(__file__).parents[1] / "toy"
if str(TOY) not in sys.path:
    sys.path.insert(0, str(TOY))

from search_toys import toy_sampler  # noqa: E402

from nasplatform.executors.store import open_store  # noqa: E402
from nasplatform.search import OptimizationConfig, TrialRecord, search  # noqa: E402
from nasplatform.search.base import ArchitectureSampler  # noqa: E402
from nasplatform.search.storage import make_pruner  # noqa: E402

Run = Callable[..., list[TrialRecord]]


@pytest.fixture
def run_search(tmp_path: Path) -> Run:
    """Run a search, or go on with it, and return the records of its trials in order.

    The studies are kept in memory by the name of their folder; each call has a sampler of its own,
    as a new process has.
    """
    storages: dict[str, InMemoryStorage] = {}

    def run(
        kind: type[ArchitectureSampler[Any]],
        evaluator: Any,
        budget: int,
        seed: int = 0,
        folder: str = "run",
        optimization: OptimizationConfig[Any] | None = None,
        pruner: Any = "none",
        told: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[TrialRecord]:
        storage = storages.setdefault(folder, InMemoryStorage())
        study = optuna.create_study(
            storage=storage,
            study_name="s",
            sampler=toy_sampler(kind, evaluator, seed, optimization, **options),
            pruner=make_pruner(pruner),
            directions=optimization.directions if optimization else ["maximize"],
            load_if_exists=True,
        )
        with open_store(tmp_path / f"{folder}.db") as store:
            search(study, evaluator, store, budget, seed, optimization=optimization, **(told or {}))
        found = [TrialRecord.of(trial) for trial in study.get_trials()]
        return [record for record in found if record is not None]

    return run
