"""Timing on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WARM_UP_RUNS = 10
WARM_UP_SECONDS = 0.5
BLOCKS = 5
TIMED_RUNS = 40
TIMED_SECONDS = 0.4


@dataclass(frozen=True)
class Timing:
    """Median and interquartile range of the time of a call, in milliseconds, and of how many."""

    median_ms: float
    iqr_ms: float
    repeats: int


def timed(call: Callable[[], object]) -> Timing:
    """Time a call.

    After a warm-up five blocks of runs are timed, each of at most 40 runs or 0.4 seconds; the
    block with the lowest median counts, so that what else runs for a while does not.
    """
    _runs(call, WARM_UP_RUNS, WARM_UP_SECONDS)
    blocks = [_runs(call, TIMED_RUNS, TIMED_SECONDS) for _ in range(BLOCKS)]
    quietest = min(blocks, key=lambda block: float(np.median(block)))
    low, median, high = np.percentile(quietest, [25, 50, 75])
    return Timing(float(median), float(high - low), len(quietest))


def _runs(call: Callable[[], object], most: int, seconds: float) -> list[float]:
    """Return the milliseconds of each run; at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < most and (not times or time.perf_counter() < end):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times
