"""What many labels cost a predictor: fit to all 15,625 cells of NAS-Bench-201, on one core.

    OMP_NUM_THREADS=1 python analysis/predictor_labels.py gp gp-trees default

Needs the table ``nasbench201``. Each predictor works in a process of its own, pinned to one core;
memory is the peak of the whole process, libraries and table (0.5 GB) included. Kendall's tau is
between what is predicted and the mean test accuracy of the very cells that were learnt from: it
says that the fit worked, and nothing of unseen cells.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from time import perf_counter, process_time

import numpy as np
from scipy.stats import kendalltau

from nasplatform.benchmarks.registry import load_table
from nasplatform.predictors import get_predictor
from nasplatform.predictors.fitting import unlabelled_of
from nasplatform.predictors.protocols import get_protocol


def measured(name: str, labels: int) -> dict[str, float]:
    """Return seconds of fitting and scoring, peak memory in GB, and tau of the learnt cells."""
    protocol, table = get_protocol("nb201"), load_table("nasbench201")
    rows = np.random.default_rng(0).permutation(len(table.architectures))[:labels]
    graphs = table.space.graphs(table.architectures[rows])
    scores, truth = (values.values(table)[rows] for values in (protocol.train, protocol.test))
    predictor, unlabelled = get_predictor(name), unlabelled_of(table.space, 0)
    start, work = perf_counter(), process_time()
    predictor.fit(graphs, scores, unlabelled)
    fitted, worked = perf_counter(), process_time()
    said = predictor.predict(graphs).mean
    return {
        "fit": fitted - start,
        "fit_cpu": worked - work,
        "score": perf_counter() - fitted,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "kendall": float(kendalltau(said, truth)[0]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each predictor in a fresh process, or the one that is named in this process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("predictors", nargs="*", default=["gp", "gp-trees", "default"])
    parser.add_argument("--labels", type=int, default=15_625)
    parser.add_argument("--here", action="store_true", help="measure in this process, as JSON")
    given = parser.parse_args(arguments)
    if given.here:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        sys.stdout.write(json.dumps(measured(given.predictors[0], given.labels)))
        return 0
    print("| predictor | labels | fit, s (CPU s) | score them, s | peak memory, GB | tau |")
    print("|---|---|---|---|---|---|")
    for name in given.predictors:
        words = [sys.executable, __file__, name, "--labels", str(given.labels), "--here"]
        one = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        print(
            f"| {name} | {given.labels:,} | {one['fit']:.0f} ({one['fit_cpu']:.0f}) | "
            f"{one['score']:.1f} | {one['memory']:.2f} | {one['kendall']:.3f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
