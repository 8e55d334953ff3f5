"""Of several processes one fits at a time; the others take what it found, and wait for nobody."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from nasplatform_toy import Ridge
from search_toys import toy_evaluator, toy_sampler

from nasplatform.executors.store import open_store
from nasplatform.search import open_study, search
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.search.shared_fits import KEY, ScoredCandidates
from nasplatform.search.surrogate import CandidateScores

EVALUATOR = toy_evaluator(8)


class Counted(Ridge):
    """Writes down when each fit began and ended."""

    log: Path | None = None
    seconds = 0.0

    def _fit(self, graphs: Any, scores: Any, unlabelled: Any, progress: Any) -> None:
        begun = time.monotonic()
        time.sleep(self.seconds)
        super()._fit(graphs, scores, unlabelled, progress)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{begun} {time.monotonic()}\n")


@contextmanager
def worker(folder: Path) -> Iterator[optuna.Study]:
    """Open the study as one of several processes does."""
    alone = {"scales": ("ranks",), "acquisition": "expected_improvement"}  # one fit a batch
    sampler = toy_sampler(PredictorSampler, EVALUATOR, batch=4, **alone)
    assert isinstance(sampler, PredictorSampler)
    sampler.predictor, sampler.shared = Counted(), True
    with open_study(folder / "study.db", "s", sampler) as study:
        yield study


def measured(study: optuna.Study, count: int) -> None:
    for _ in range(count):
        trial = study.ask()
        study.tell(trial, EVALUATOR.evaluate(EVALUATOR.space.suggest(trial), 4, 0).score)


def source(study: optuna.Study, trial: optuna.Trial) -> str:
    EVALUATOR.space.suggest(trial)
    sampler = study.sampler
    assert isinstance(sampler, PredictorSampler)
    proposal = sampler.proposal(trial.number)
    assert proposal is not None
    return proposal.source


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Counted, "log", tmp_path / "fits")
    (tmp_path / "fits").touch()
    return tmp_path / "fits"


def count(fits: Path) -> int:
    return len(fits.read_text().splitlines())


def test_who_begins_while_another_fits_neither_waits_nor_fits(tmp_path: Path, fits: Path) -> None:
    with worker(tmp_path) as one, worker(tmp_path) as other:
        measured(one, 6)
        assert count(fits) == 0
        fitting = one.ask()  # has begun, and has not decided
        assert source(other, other.ask()) == "random"
        assert count(fits) == 0
        assert source(one, fitting) == "predicted"
        assert count(fits) == 1
        assert [source(study, study.ask()) for study in (other, one)] == ["predicted"] * 2
        assert count(fits) == 1
        trials = other.get_trials()
        assert len({str(sorted(trial.params.items())) for trial in trials}) == len(trials)
        fitting = one.ask()  # the next batch begins with it
        assert source(other, other.ask()) == "predicted"  # by what the fit before left
        assert count(fits) == 1


def test_what_a_fit_found_outlives_its_process(tmp_path: Path, fits: Path) -> None:
    with worker(tmp_path) as one:
        measured(one, 7)
        assert count(fits) == 1
    with worker(tmp_path) as anew:
        assert source(anew, anew.ask()) == "predicted"
        assert count(fits) == 1


def test_a_fit_that_never_ends_keeps_nobody(
    tmp_path: Path, fits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(tmp_path) as dead, worker(tmp_path) as living:
        measured(dead, 6)
        dead.ask()
        assert source(living, living.ask()) == "random"
        monkeypatch.setattr("nasplatform.search.shared_fits._PATIENCE", 0.0)
        assert source(living, living.ask()) == "predicted"
        assert count(fits) > 0


def test_candidates_come_back_as_they_were_told() -> None:
    population = EVALUATOR.space.sample(40, np.random.default_rng(0))
    draws = np.random.default_rng(1).normal(size=(4, 40))
    told = ScoredCandidates(population, CandidateScores(draws[0], draws[1], (draws[2], draws[3])))
    read = ScoredCandidates.from_text(told.to_text(), EVALUATOR.space)
    assert read.population.codes.tolist() == population.codes.tolist()
    for given, found in zip(
        draws, [read.scores.mean, read.scores.std, *read.scores.values], strict=True
    ):
        assert found.tolist() == given.tolist()


def test_a_search_alone_keeps_no_candidates(tmp_path: Path) -> None:
    sampler = toy_sampler(PredictorSampler, EVALUATOR)
    with (
        open_study(tmp_path / "s.db", "s", sampler) as study,
        open_store(tmp_path / "m.db") as store,
    ):
        search(study, EVALUATOR, store, 8)
        assert not any(KEY in trial.system_attrs for trial in study.get_trials())


@pytest.mark.slow
def test_fits_of_four_workers_never_overlap(
    tmp_path: Path, fits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counted, "seconds", 0.1)

    url = f"sqlite:///{tmp_path / 'study.db'}"

    def work() -> None:
        sampler = toy_sampler(PredictorSampler, EVALUATOR, scales=("ranks",))
        assert isinstance(sampler, PredictorSampler)
        sampler.predictor = Counted()
        with (
            open_study(url, "s", sampler) as study,
            open_store(url) as store,
        ):
            search(study, EVALUATOR, store, 40, exclusive=False)

    workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(60)
    assert [one.exitcode for one in workers] == [0] * 4
    spans = sorted(tuple(map(float, line.split())) for line in fits.read_text().splitlines())
    assert len(spans) > 3
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans))
