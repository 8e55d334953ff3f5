"""Timing on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

WARM_UP_RUNS = 10
WARM_UP_SECONDS = 0.5
BLOCKS = 5
TIMED_RUNS = 40
TIMED_SECONDS = 0.4


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return median and interquartile range of the time of a call, in milliseconds.

    After a warm-up five blocks of runs are timed, each of at most 40 runs or 0.4 seconds; the
    block with the lowest median counts, so that what else runs for a while does not.
    """
    _runs(call, WARM_UP_RUNS, WARM_UP_SECONDS)
    blocks = [
        np.percentile(_runs(call, TIMED_RUNS, TIMED_SECONDS), [25, 50, 75]) for _ in range(BLOCKS)
    ]
    low, median, high = min(blocks, key=lambda block: float(block[1]))
    return float(median), float(high - low)


def _runs(call: Callable[[], object], most: int, seconds: float) -> list[float]:
    """Return the milliseconds of each run; at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < most and (not times or time.perf_counter() < end):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times
