"""How close predictor-driven evolution comes to scoring the whole space.

    python analysis/predictor_evolution.py --predictor renas --draws 3

fits a predictor on 424 labels of the protocol ``tnasp``, scores all cells of NAS-Bench-101 once to
know the truth, and lets the evolution of the sampler ``predictor`` look for the best of them: a
random population, then in each generation all one-edit mutants of the ten best so far. Ranks are
those of the predictor's own scores, 1 for its favourite.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import nasplatform
from nasplatform.errors import InputError
from nasplatform.predictors import get_predictor
from nasplatform.predictors.base import Predictor
from nasplatform.predictors.protocols import draw, get_protocol
from nasplatform.search.candidates import CandidateBatch, CandidatePool
from nasplatform.spaces.base import Population, Space
from nasplatform.spaces.nasbench101.cells import Cell

LABELS, TOP = 424, 10
POPULATION = 1000  # random cells to begin with
Floats = NDArray[np.float64]
GENERATIONS = (0, 2, 5, 10, 20)


def evolved(
    space: Space[Cell], predictor: Predictor, seed: int
) -> list[tuple[CandidateBatch[Cell], Floats]]:
    """Return the batches that were scored: the random population, then one for each generation."""
    rng = np.random.default_rng(seed)
    pool = CandidatePool.of(space, None, _all, pool=0, samples=POPULATION, rng=rng)

    def score(batch: CandidateBatch[Cell]) -> Floats:
        return predictor.predict(batch.graphs).mean

    first = score(pool.far)
    best = pool.far.population[np.argsort(-first, kind="stable")]
    return pool.search(
        best,
        lambda batch: first if batch is pool.far else score(batch),
        lambda parts: np.concatenate(parts),
        GENERATIONS[-1] - 1,
    )


def _all(cells: Population[Cell]) -> NDArray[np.bool_]:
    return np.ones(len(cells), bool)


def measured(method: str, seed: int) -> list[dict[str, float]]:
    """Return a row for each number of generations."""
    space = nasplatform.get_space("nasbench101")
    drawn = draw(get_protocol("tnasp"), LABELS, seed)
    predictor = get_predictor(method, seed=seed).fit(drawn.train, drawn.labels, drawn.test)
    every = space.enumerate()
    assert every is not None  # this space is finite
    scores = predictor.predict(space.graphs(every)).mean
    favourites = every.keys[np.argsort(-scores, kind="stable")]
    sorter = np.argsort(favourites)
    batches = [batch.population.keys for batch, _ in evolved(space, predictor, seed)]
    rows = []
    for generations in GENERATIONS:
        seen = np.concatenate(batches[: generations + 1])
        places = np.searchsorted(favourites, np.unique(seen), sorter=sorter)
        ranks = 1 + np.sort(sorter[places])[:TOP]
        rows.append(
            {
                "generations": generations,
                "scored": len(seen),
                "best": ranks[0],
                "ten": ranks.mean(),
            }
        )
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--predictor", default="renas")
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    try:
        rows = [row for seed in range(given.draws) for row in measured(given.predictor, seed)]
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print("| generations | cells scored | rank of the best | mean rank of the ten best |")
    print("|---|---|---|---|")
    for generations, part in pd.DataFrame(rows).groupby("generations"):
        ranks = (f"{part[name].mean():,.0f} ± {part[name].std():,.0f}" for name in ("best", "ten"))
        print(f"| {generations} | {part['scored'].mean():,.0f} | {' | '.join(ranks)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
