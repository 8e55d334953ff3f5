"""The measurements of ``service_load``; each asks a server that runs already."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from load_generator import HOST, Result, Tally, Texts, closed_loop, open_loop
from load_servers import cpu, free_port, memory, ours, served

BODIES = (("json", 1), ("json", 4), ("text", 4), ("codes", 4))


def single(port: int, requests: Iterator[bytes], seconds: float) -> Result:
    """Ask for one architecture 50 times a second."""
    warm = asyncio.run(closed_loop(port, 2, 1, requests))
    tally = asyncio.run(open_loop(port, 50, seconds, requests))
    return {**tally.summary(), "answers": warm.codes[200] + tally.codes[200]}


def clients(port: int, requests: Iterator[bytes], seconds: float) -> Result:
    """Let 32 clients ask for one architecture each, again and again."""
    warm = asyncio.run(closed_loop(port, 32, 1, requests))
    tally = asyncio.run(closed_loop(port, 32, seconds, requests))
    return {**tally.summary(), "answers": warm.codes[200] + tally.codes[200]}


def batches(port: int, texts: Texts, seconds: float) -> Result:
    """Ask for 1,000 architectures at once."""
    found: Result = {}
    answers = 0
    for kind, count in BODIES:
        requests = texts.batches(1000, kind)
        warm = asyncio.run(closed_loop(port, count, 0.5, requests))
        tally = asyncio.run(closed_loop(port, count, seconds, requests))
        found[f"{kind}_{count}_clients"] = tally.summary(1000)
        answers += warm.codes[200] + tally.codes[200]
    return {**found, "answers": answers}


def highest(port: int, texts: Texts) -> float:
    """Return the highest rate of requests for one architecture that is answered, per second."""
    tally = asyncio.run(closed_loop(port, 64, 5, texts.ours()))
    return tally.codes[200] / tally.seconds


def soak(port: int, texts: Texts, seconds: float, process: subprocess.Popen[bytes]) -> Result:
    """Ask at 80 % of the highest rate for long; watch the memory."""
    rate = 0.8 * highest(port, texts)
    parts = max(5, round(seconds / 30))
    before, trail = memory(process), []
    whole = Tally()
    for _ in range(parts):
        tally = asyncio.run(open_loop(port, rate, max(seconds / parts, 1.0), texts.ours()))
        whole.codes.update(tally.codes)
        whole.latencies += tally.latencies
        whole.seconds += tally.seconds
        trail.append(memory(process))
    # What fills up first (caches, counters) is no leak: the second half must be flat.
    half = trail[len(trail) // 2 :]
    slope = np.polyfit(np.arange(len(half)), half, 1)[0] * parts / (seconds / 60)
    return {
        "rate": round(rate, 1),
        "seconds": round(whole.seconds, 1),
        **whole.summary(),
        "memory_mib": [before, *trail],
        "memory_growth_mib_per_minute": round(float(slope), 3),
    }


def overload(port: int, texts: Texts, seconds: float, process: subprocess.Popen[bytes]) -> Result:
    """Ask at three times the highest rate, then look how soon it is quick again."""
    rate = 3 * highest(port, texts)
    tally = asyncio.run(open_loop(port, rate, seconds, texts.ours(), most=900))
    ended = time.perf_counter()
    while True:
        calm = asyncio.run(open_loop(port, 20, 0.5, texts.ours()))
        after = time.perf_counter() - ended
        quick = set(calm.codes) == {200} and np.median(calm.latencies) < 0.05
        if quick or after > 30:
            break
    return {
        "rate": round(rate, 1),
        **tally.summary(),
        "recovered_after_s": round(after, 2),
        "alive": process.poll() is None,
        "memory_mib": memory(process),
    }


def refit(port: int, texts: Texts) -> Result:
    """Ask at half the highest rate while a new version is fitted, and 5 s longer."""
    rate, base = 0.5 * highest(port, texts), f"http://{HOST}:{port}/v1/predictors/demo"
    _report(base, texts)
    codes: Counter[int] = Counter()
    tally = Tally()
    begun, ended = time.perf_counter(), 0.0
    state = {"state": "running"}
    while not ended or time.perf_counter() < ended + 5:
        tally = asyncio.run(open_loop(port, rate, 2, texts.ours()))
        codes.update(tally.codes)
        state = httpx.get(f"{base}/refit", timeout=60).json()
        if not ended and (state["state"] != "running" or time.perf_counter() > begun + 300):
            ended = time.perf_counter()
    return {
        "rate": round(rate, 1),
        **tally.summary(),
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "state": state,
        "seconds": round(ended - begun, 1),
    }


def kill(store: Path, texts: Texts, times: int) -> Result:
    """Kill a service and its refits at random moments under load; open the store each time."""
    from nasplatform.service import PredictorStore

    drawn = random.Random(0)
    moments, versions = [], 0
    for _ in range(times):
        port = free_port()
        with served(ours(store, port, "reference=2000", "reload=0.2"), port) as process:
            _report(f"http://{HOST}:{port}/v1/predictors/demo", texts)
            moment = drawn.uniform(0.0, 8.0)
            asyncio.run(open_loop(port, 100, moment, texts.ours()))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        moments.append(round(moment, 2))
        opened = PredictorStore(store)
        torn = [path.name for path in (store / "demo").glob(".new-*")]
        for number in opened.versions("demo"):
            opened.load(opened.find("demo", number))  # checks the digest of every file
        if torn:
            raise SystemExit(f"left behind: {torn}")
        versions = len(opened.versions("demo"))
    return {"kills": times, "after_s": moments, "versions": versions, "clean": True}


def _report(base: str, texts: Texts) -> None:
    """Report three results and wish for a refit."""
    measured = [{"architecture": text, "score": 0.9} for text in texts.take(3)]
    body = {"evaluations": measured, "refit": True}
    httpx.post(f"{base}/evaluations", json=body, timeout=60).raise_for_status()


def wait_until_ranked(port: int) -> float:
    """Wait until the service has no work in the background; return the seconds."""
    begun, url = time.perf_counter(), f"http://{HOST}:{port}/v1/predictors/demo"
    while not httpx.get(url, timeout=60).json()["view"]["complete"]:
        if time.perf_counter() - begun > 900:
            raise SystemExit("the space was not ranked within 900 s")
        time.sleep(1)
    return round(time.perf_counter() - begun, 1)


def with_cpu(process: subprocess.Popen[bytes], before: float, result: Result) -> Result:
    """Add the CPU milliseconds of the server for each answer."""
    spent = cpu(process.pid) - before
    return {**result, "cpu_ms_per_answer": round(1000 * spent / max(result["answers"], 1), 3)}
