"""How often the quickstart's search ends in the top 0.5 % of its table, random search beside it.

    python analysis/quickstart_search.py [--seeds 20] [--out runs/quickstart-seeds]

Runs the search of ``searches/quickstart.yaml`` without its stages, once per seed and sampler,
through the same loop. Broken off, the same command goes on. Prints the Markdown table of the
README.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import nasplatform
from nasplatform.benchmarks.library import load_table

SEARCH = Path(__file__).parents[1] / "searches" / "quickstart.yaml"
BUDGET, TOP = 60, 0.005
SAMPLERS = {"predictor": {}, "random": {"search": {"sampler": "random", "budget": BUDGET}}}


def search(out: Path, seeds: int) -> pd.DataFrame:
    """Run what was not run yet and return every evaluation."""
    for seed in range(seeds):
        for sampler, changes in SAMPLERS.items():
            folder = out / f"{sampler}-{seed}"
            overrides = {"seed": seed, "search.budget": BUDGET, "stages": [], **changes}
            nasplatform.run(SEARCH, folder, overrides, resume=True)
    return nasplatform.read_runs(out)


def summarise(found: pd.DataFrame) -> pd.DataFrame:
    """Return one row per sampler: how high the best of each run stands in the table."""
    scores = load_table("cells-digits").values("valid_accuracy")
    best = found.groupby(["sampler", "run_seed"])["score"].max().reset_index()
    best["rank"] = [int((scores > score + 1e-9).sum()) + 1 for score in best["score"]]
    best["regret"] = scores.max() - best["score"]
    hit = best["rank"] <= int(np.floor(TOP * len(scores)))
    return best.assign(hit=hit).groupby("sampler").agg(
        seeds=("hit", "size"),
        in_top=("hit", "sum"),
        median_rank=("rank", "median"),
        mean_score=("score", "mean"),
        sd=("score", "std"),
        mean_regret=("regret", "mean"),
    )  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart-seeds"))
    given = parser.parse_args()
    table = summarise(search(given.out, given.seeds))
    print(f"| sampler | seeds | best in the top {TOP:.1%} | median rank | best score | regret |")
    print("|---|---|---|---|---|---|")
    for sampler, row in table.iterrows():
        print(
            f"| {sampler} | {row['seeds']:.0f} | {row['in_top']:.0f} | {row['median_rank']:.0f} "
            f"| {row['mean_score']:.4f} ± {row['sd']:.4f} | {row['mean_regret']:.4f} |"
        )


if __name__ == "__main__":
    main()
