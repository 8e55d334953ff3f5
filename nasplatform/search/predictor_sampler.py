"""A sampler that spends each evaluation where a predictor points."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, field_validator
from pydantic import Field as Option

from nasplatform.encodings.active_subgraph import learns_inside
from nasplatform.encodings.cache import features_of
from nasplatform.errors import ConfigError
from nasplatform.plugin_contracts import check_made
from nasplatform.predictors.base import Predictor
from nasplatform.search.acquisition import Acquisition
from nasplatform.search.base import (
    ArchitectureSampler,
    Proposal,
    Reason,
    SamplerContext,
    SamplerOptions,
)
from nasplatform.search.candidates import CandidatePool, farthest_point_sampling
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.shared_fits import KEY, ScoredCandidates, SharedFits
from nasplatform.search.surrogate import (
    CandidatePredictions,
    CandidateScores,
    SurrogateModel,
)
from nasplatform.search.target_transforms import Scale
from nasplatform.spaces.base import A, Population, Space

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_IMPROVEMENT: tuple[Acquisition, ...] = ("expected_improvement",)
_WITH_DRAWS: tuple[Acquisition, ...] = (*_IMPROVEMENT * 3, "bootstrap_thompson")
_DESIGN, _POOL, _SCORE, _EXPLORE, _PART = 1, 2, 3, 4, 5  # what a random generator is for


class PredictorOptions(SamplerOptions):
    """Options of the sampler ``predictor``."""

    initial: int = Option(default=3, ge=1, description="labels before the first fit")
    design: Literal["random", "spread"] = Option(
        "random", description="initial architectures: random, or as unlike each other as can be"
    )
    batch: int | None = Option(
        default=None, ge=1, description="evaluations between two fits; null: a 20th of the labels"
    )
    acquisition: tuple[Acquisition, ...] | None = Option(
        None,
        min_length=1,
        description="what makes a candidate promising; several take turns, trial by trial; null: "
        "expected improvement, with a single objective every fourth trial bootstrap_thompson",
    )
    beta: float = Option(
        1.0, ge=0, description="weight of the std in upper_confidence_bound, in std of the labels"
    )
    scales: tuple[Scale, ...] = Option(
        ("ranks", "gaps"),
        min_length=1,
        description="of the labels, on the mean of which a single objective is weighed; "
        "bootstrap_thompson asks the predictor as it is",
    )
    exploration: float = Option(
        0.0, ge=0, le=1, description="share of the trials that are drawn at random"
    )
    pool: int = Option(40_000, ge=1, description="up to this many candidates are scored at once")
    samples: int = Option(
        10_000, ge=1, description="of a larger space: random candidates, beside local search"
    )
    rounds: int = Option(2, ge=0, description="of local search in a larger space")

    @field_validator("acquisition", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class PredictorSampler(ArchitectureSampler[A]):
    """Fits a predictor to the labels so far and proposes the most promising unseen candidate.

    The first ``initial`` trials (at least as many as the predictor needs) are a design that depends
    on the seed alone and leaves out what has nothing to learn, as cells that nothing crosses. After
    that the predictor is fitted anew every ``batch`` trials to all labels that an unbroken
    sequential study has by then; the trials of a batch take the best unseen candidates of that
    fit, each by the acquisition whose turn it is. A single objective is weighed on the mean of
    several scales of the labels (see ``target_transforms``). What other workers measure at that
    time counts as if it had turned out as predicted. Where the labels cannot be learnt from yet
    (too few, all equal) a trial is random.

    Expected improvement alone follows a predictor that errs about the best few for long. What else
    the labels may mean tells a copy of the predictor that learns from a random two fifths of them,
    or as many as it needs: with a single objective every fourth trial takes what it holds for best,
    Thompson sampling by a bootstrap (Eckles and Kaptein, arXiv 1410.4009; that a part is drawn
    without repetition is our reading), of a larger space among the candidates that local search
    for the first acquisition has met. With a second objective the acquisition is the expected
    improvement of the hypervolume, with more of them that of a random scalarisation; objectives
    that are known of every candidate, such as parameters, are used as they are, others are
    predicted. Limits on what only measuring tells weigh a candidate with the probability that
    it keeps them.

    Of several processes at one study one fits at a time; trials that begin meanwhile take the best
    that the fit before left, or, without one, a random architecture (see ``shared_fits``).
    """

    name: ClassVar[str] = "predictor"
    Options: ClassVar[type[SamplerOptions]] = PredictorOptions
    several_objectives: ClassVar[bool] = True

    def __init__(
        self,
        space: Space[A],
        predictor: Predictor,
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        optimization: OptimizationConfig[A] | None = None,
        **options: Any,
    ) -> None:
        """Take the space, a predictor (its quick kind is used) and fields of ``PredictorOptions``.

        candidates: the only architectures that may be proposed, or None for the whole space.
        """
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)
        self.predictor = predictor.quick()
        check_made("predictors", f"quick() of predictor {predictor.name!r}", self.predictor)
        self.options = PredictorOptions.model_validate(options)
        self.initial = max(self.options.initial, predictor.min_labels)
        several = optimization is not None and bool(optimization.objectives)
        self._acquisitions = self.options.acquisition or (_IMPROVEMENT if several else _WITH_DRAWS)
        self._pool: CandidatePool[A] | None = None
        self._fitting = 0.0  # seconds of the latest fit, until a proposal tells them
        self._latest: tuple[tuple[int, bytes], ScoredCandidates[A]] | None = None
        self._others: SharedFits[A] = SharedFits(space)

    @classmethod
    def from_options(cls, options: BaseModel, context: SamplerContext[A]) -> Self:
        """Make the sampler that a search file describes; it must name a predictor."""
        if context.predictor is None:
            raise ConfigError("sampler 'predictor' needs a predictor: name one")
        return cls(
            context.space,
            context.predictor,
            seed=context.seed,
            candidates=context.candidates,
            optimization=context.optimization,
            **options.model_dump(),
        )

    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Choose the architecture of trial ``number``."""
        if number < self.initial:
            return self._initial(number, history)
        first = self._first_of_batch(number)
        labels = history.before(first)
        explores = self.rng(number, _EXPLORE).random() < self.options.exploration
        if explores or not self._learnable(labels):
            return self._random(number, history, "random")
        return self._best(self._scored(first, labels), number, history)

    def choose(self, study: Study, trial: FrozenTrial, history: History[A]) -> Proposal[A]:
        """Choose the architecture of a trial; fit only where nobody else is about to."""
        number = trial.number
        if not self.shared or number < self.initial:
            return self.propose(number, history)
        trials = study.get_trials(deepcopy=False)[:number]
        newest = self._others.newest(trials)
        fitted = newest is not None and newest[0] >= self._first_of_batch(number)
        if not fitted and not self._others.somebody_fits(trials, number):
            proposal = self.propose(number, history)
            if self._latest is not None and proposal.source == "predicted":
                found = self._latest[1].to_text()
                study._storage.set_trial_system_attr(trial._trial_id, KEY, found)
            return proposal
        if newest is None:
            return self._random(number, history, "random")
        return self._best(newest[1], number, history)

    def _best(self, scored: ScoredCandidates[A], number: int, history: History[A]) -> Proposal[A]:
        """Return the best unseen candidate by the acquisition whose turn it is."""
        values = scored.scores.values[number % len(self._acquisitions)]
        fresh = np.flatnonzero(~np.isin(scored.population.keys, history.seen))
        if not len(fresh):
            return self._random(number, history, "random")
        best = int(fresh[np.argmax(values[fresh])])
        mean, std = float(scored.scores.mean[best]), float(scored.scores.std[best])
        fitting, self._fitting = self._fitting, 0.0
        return Proposal(scored.population[best], "predicted", mean, std, fitting)

    def _first_of_batch(self, number: int) -> int:
        """Return the trial before which the predictor was fitted last."""
        first = self.initial
        if self.options.batch is not None:
            return number - (number - first) % self.options.batch
        while first + self._batch(first) <= number:
            first += self._batch(first)
        return first

    def _batch(self, first: int) -> int:
        """Return how many trials share the fit that trial ``first`` makes."""
        return self.options.batch or max(1, first // 20)

    def _turns(self, first: int) -> tuple[Acquisition, ...]:
        """Return the acquisitions of a fit; one that no trial of its own asks for is the first."""
        turns = self._acquisitions
        if self.shared:  # others take what this fit finds, in trials to come
            return turns
        asked = {number % len(turns) for number in range(first, first + self._batch(first))}
        return tuple(kind if n in asked else turns[0] for n, kind in enumerate(turns))

    def _candidates(self) -> CandidatePool[A]:
        if self._pool is None:
            self._pool = CandidatePool.of(
                self.space,
                self.candidates,
                self.feasible_mask,
                self.options.pool,
                self.options.samples,
                np.random.default_rng([self.seed, _POOL]),
                labelled=self.optimization is not None
                and bool(self.optimization.used & self.optimization.static_names),
            )
        return self._pool

    def _initial(self, number: int, history: History[A]) -> Proposal[A]:
        if number < len(self._design):
            chosen = self._candidates().far.population[self._design[number : number + 1]]
            if not np.isin(chosen.keys, history.seen)[0]:
                return Proposal(chosen[0], "initial")
        return self._random(number, history, "initial")

    @cached_property
    def _design(self) -> NDArray[np.intp]:
        """Rows of the pool that are labelled first."""
        rng = np.random.default_rng([self.seed, _DESIGN])
        rows = self._promising
        if self.options.design == "random":
            return rng.permutation(rows)[: self.initial]
        values = features_of(self._candidates().far.graphs).values[rows]
        return rows[farthest_point_sampling(values, self.initial, rng)]

    @cached_property
    def _promising(self) -> NDArray[np.intp]:
        """Rows of the pool worth a label: what learns nothing inside is not, if others do."""
        learns = np.flatnonzero(learns_inside(self._candidates().far.graphs))
        few = len(learns) < self.initial
        return np.arange(len(self._candidates().far)) if few else learns

    def _random(self, number: int, history: History[A], source: Reason) -> Proposal[A]:
        rng, known = self.rng(number), self._candidates().far.population
        rows = self._promising[~np.isin(known.keys[self._promising], history.seen)]
        chosen = known[int(rng.choice(rows))] if len(rows) else self.draw_unseen(history.seen, rng)
        return Proposal(chosen, source)

    def _learnable(self, labels: History[A]) -> bool:
        enough = len(labels) >= max(2, self.predictor.min_labels)
        return enough and bool(np.ptp(labels.scores) > 0)

    def _scored(self, first: int, labels: History[A]) -> ScoredCandidates[A]:
        """Fit and score for the batch that begins with trial ``first``; once per batch."""
        pending = labels.pending
        known = (labels.architectures.keys, labels.values, labels.violation, pending.keys)
        signature = (first, b"".join(array.tobytes() for array in known))
        if self._latest is None or self._latest[0] != signature:
            pool = self._candidates()
            begun = time.perf_counter()
            surrogate = SurrogateModel.fit(
                self.space,
                self.predictor,
                labels,
                pool.far.graphs,
                self.optimization,
                self._turns(first),
                self.options.beta,
                self.rng(first, _PART),
                self.options.scales,
            )
            self._fitting = time.perf_counter() - begun

            def weigh(parts: list[CandidatePredictions]) -> CandidateScores:
                rng = self.rng(first, _SCORE)
                return surrogate.score(CandidatePredictions.joined(parts), rng)

            found = pool.search(
                labels.architectures[np.argsort(-labels.scores, kind="stable")],
                surrogate.predict,
                lambda parts: weigh(parts).acquisition,
                self.options.rounds,
            )
            codes = np.concatenate([batch.population.codes for batch, _ in found])
            scores = weigh([one for _, one in found])
            self._latest = signature, ScoredCandidates(self.space.from_codes(codes), scores)
        return self._latest[1]
