"""How fast the service is and how it bears a crowd, beside a minimal LitServe server.

    python analysis/service_load.py --out service_load.json              # the short ones
    python analysis/service_load.py --out service_load.json --only soak --soak 600

Both servers answer from the same saved predictor, one after the other on this machine, asked by
the same generator. LitServe is measured where it is installed (``pip install litserve``), without
and with its batching. Labels are a smooth function of the cost: what is measured is time. Some
160,000 architectures are asked in turn. In ``single``, ``clients`` and ``batches`` the service
has ranked only 5,000 of the space, so that nearly every answer is inferred; ``ranked-...`` and
the long ones ask a service as it is after half a minute, when the whole space is ranked and known
architectures are looked up.

Each measurement is written to the file as it ends; what stands there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import load_scenarios as scenarios
from load_generator import Result, Texts
from load_servers import COMPARED, cpu, free_port, litserve, make_store, ours, served

COLD = ("single", "clients", "batches")
RANKED = ("ranked-single", "ranked-clients", "ranked-batches", "overload", "refit", "soak")
LIT = ("litserve-1", "litserve-32")
ALL = (*COLD, *LIT, *RANKED, "kill")


class Record:
    """The file of results: settings, and one entry for each measurement."""

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        """Read what is there; refuse a file of other settings."""
        self._path = path
        self.found: Result = {"settings": settings, "results": {}}
        if path is not None and path.is_file():
            self.found = json.loads(path.read_text())
            if self.found["settings"] != settings:
                raise SystemExit(f"{path}: holds {self.found['settings']}, not {settings}")

    def missing(self, names: tuple[str, ...], wanted: list[str]) -> list[str]:
        """Return which of some measurements are wanted and not there."""
        return [name for name in names if name in wanted and name not in self.found["results"]]

    def add(self, name: str, result: Result) -> None:
        """Print and keep a result."""
        result = {**result, "load_average": round(os.getloadavg()[0], 2)}
        self.found["results"][name] = result
        print(f"{name}: {json.dumps(result)}", flush=True)
        if self._path is not None:
            temporary = self._path.with_suffix(".part")
            temporary.write_text(json.dumps(self.found, indent=2) + "\n")
            temporary.replace(self._path)


def measure_cold(store: Path, texts: Texts, options: argparse.Namespace, record: Record) -> None:
    """Measure the service while it infers."""
    for name in record.missing(COLD, options.only):
        port = free_port()
        with served(ours(store, port, "reference=5000"), port) as process:
            scenarios.wait_until_ranked(port)
            before, seconds = cpu(process.pid), options.seconds
            if name == "batches":
                result = scenarios.batches(port, texts, seconds)
            else:
                requests = texts.ours() if name == "single" else texts.lean()
                result = getattr(scenarios, name)(port, requests, seconds)
            record.add(name, scenarios.with_cpu(process, before, result))


def measure_ranked(store: Path, texts: Texts, options: argparse.Namespace, record: Record) -> None:
    """Measure the service as it is once the whole space is ranked."""
    missing = record.missing(RANKED, options.only)
    if not missing:
        return
    port, seconds = free_port(), options.seconds
    with served(ours(store, port), port) as process:
        print(f"the space was ranked after {scenarios.wait_until_ranked(port)} s", flush=True)
        for name in missing:
            before, kind = cpu(process.pid), name.removeprefix("ranked-")
            if name == "soak":
                record.add(name, scenarios.soak(port, texts, options.soak, process))
            elif name == "overload":
                record.add(name, scenarios.overload(port, texts, seconds, process))
            elif name == "refit":
                record.add(name, scenarios.refit(port, texts))
                scenarios.wait_until_ranked(port)
            else:
                if kind == "batches":
                    result = scenarios.batches(port, texts, seconds)
                else:
                    requests = texts.ours() if kind == "single" else texts.lean()
                    result = getattr(scenarios, kind)(port, requests, seconds)
                record.add(name, scenarios.with_cpu(process, before, result))


def measure_litserve(
    version: Path, texts: Texts, options: argparse.Namespace, record: Record
) -> None:
    """Measure what LitServe takes part in: one architecture a request."""
    for name in record.missing(LIT, options.only):
        if not COMPARED:
            print("LitServe is not installed: not compared")
            return
        port, batch = free_port(), int(name.rpartition("-")[2])
        with served(litserve(version, port, batch), port) as process:
            found: Result = {}
            for kind in ("single", "clients"):
                before = cpu(process.pid)
                result = getattr(scenarios, kind)(port, texts.lit(), options.seconds)
                found[kind] = scenarios.with_cpu(process, before, result)
            record.add(name, found)


def table(found: Result) -> str:
    """Return the results as a table of Markdown."""
    results = found["results"]
    rows = [
        "| what | per second | median | p95 | p99 | CPU per answer |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in _timed(results):
        unit = " architectures" if "batches" in name else ""
        rows.append(
            f"| {name} | {result['per_second']:,.0f}{unit} | {result['median_ms']} ms | "
            f"{result['p95_ms']} ms | {result['p99_ms']} ms | "
            f"{result.get('cpu_ms_per_answer', '')} |"
        )
    if "clients" in results and "litserve-32" in results:
        ours_, theirs = results["clients"], results["litserve-32"]["clients"]
        ratio = ours_["per_second"] / theirs["per_second"]
        rows.append(f"\nThroughput with 32 clients: {ratio:.2f} times LitServe's.")
    for name in ("soak", "overload", "refit", "kill"):
        if name in results:
            facts = {k: v for k, v in results[name].items() if k not in ("memory_mib", "after_s")}
            rows.append(f"\n{name}: {json.dumps(facts)}")
    return "\n".join(rows)


def _timed(results: Result) -> Iterator[tuple[str, Result]]:
    for name in ALL:
        result = results.get(name, {})
        if "per_second" in result:
            yield name, result
        else:
            for inner, value in result.items():
                if isinstance(value, dict) and "per_second" in value:
                    yield f"{name}, {inner}", value


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), make_store(Path(folder), options.predictor, options.labels)


def main() -> None:
    """Measure; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--predictor", default="gp-trees")
    parser.add_argument("--labels", type=int, default=424)
    parser.add_argument("--seconds", type=float, default=15, help="of a measurement")
    parser.add_argument("--soak", type=float, default=600, help="seconds of the long one")
    parser.add_argument("--kills", type=int, default=10)
    short = [name for name in ALL if name not in ("soak", "kill")]
    parser.add_argument("--only", nargs="*", choices=ALL, default=short)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended, too
    settings = {
        **{name: getattr(options, name) for name in ("predictor", "labels", "seconds")},
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    record = Record(options.out, settings)
    texts = Texts()
    with _store(options) as (store, version):
        measure_cold(store, texts, options, record)
        measure_litserve(version, texts, options, record)
        measure_ranked(store, texts, options, record)
        for name in record.missing(("kill",), options.only):
            record.add(name, scenarios.kill(store, texts, options.kills))
    print(table(record.found))


if __name__ == "__main__":
    main()
