"""The toy plug-in on the path, and a short way to run a search on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOY = Path(__file__).parents[1] / "toy"
if str(TOY) not in sys.path:
    sys.path.insert(0, str(TOY))

from search_toys import toy_sampler  # noqa: E402

from nasplatform.search import EvaluationStore, Facts, Goals, open_study, search  # noqa: E402
from nasplatform.search.base import ArchitectureSampler  # noqa: E402

Run = Callable[..., list[Facts]]


@pytest.fixture
def run_search(tmp_path: Path) -> Run:
    """Run a search in a folder of its own and return the facts of its trials in order."""

    def run(
        kind: type[ArchitectureSampler[Any]],
        evaluator: Any,
        budget: int,
        seed: int = 0,
        folder: str = "run",
        goals: Goals[Any] | None = None,
        pruner: Any = "none",
        told: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[Facts]:
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        sampler = toy_sampler(kind, evaluator, seed, goals, **options)
        directions = goals.directions if goals else ["maximize"]
        with (
            open_study(home / "s.db", "s", sampler, directions=directions, pruner=pruner) as study,
            EvaluationStore(home / "m.db") as store,
        ):
            search(study, evaluator, store, budget, seed, goals=goals, **(told or {}))
            found = [Facts.of(trial) for trial in study.get_trials()]
        return [facts for facts in found if facts is not None]

    return run
