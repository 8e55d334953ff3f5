"""How long ``read_runs`` takes on a folder of many runs, and how much memory.

One search is really run; the other runs are copies of it under other seeds. Reading is timed in a
process of its own, which has imported the package before the clock starts.

    python analysis/frames_speed.py --runs 1000 --evaluations 1000
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

import nasplatform

READ = """
import json, resource, sys, time
import nasplatform
from nasplatform.runs import epochs, frames

begun, busy = time.perf_counter(), time.process_time()
found = nasplatform.read_runs(sys.argv[1])
seconds, busy = time.perf_counter() - begun, time.process_time() - busy
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"rows": len(found), "seconds": seconds, "cpu_seconds": busy, "peak_gb": peak}))
"""
KEPT = ("evaluations.parquet", "epochs.parquet")


def make_runs(folder: Path, runs: int, evaluations: int) -> None:
    """Run one search of the embedded benchmark, and copy what it leaves under other seeds."""
    search = {
        "name": "random",
        "evaluator": {"name": "table", "table": "cells-digits"},
        "search": {"sampler": {"name": "random"}, "budget": evaluations},
    }
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(search), encoding="utf-8")
    first = nasplatform.run(file, folder / "runs" / "random-0").folder
    values = yaml.safe_load(first.resolved.read_text(encoding="utf-8"))
    for seed in range(1, runs):
        copy = folder / "runs" / f"random-{seed}"
        copy.mkdir()
        for name in KEPT:
            shutil.copyfile(first.path / name, copy / name)
        text = yaml.safe_dump({**values, "seed": seed}, sort_keys=False)
        (copy / "resolved.yaml").write_text(text, encoding="utf-8")


def main() -> None:
    """Make the runs where they are not there yet, and read them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/frames-speed"))
    given = parser.parse_args()
    folder = given.out / f"{given.runs}x{given.evaluations}"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        make_runs(folder, given.runs, given.evaluations)
    for _ in range(3):
        command = [sys.executable, "-c", READ, str(folder / "runs")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        print(", ".join(f"{name} {value:,.2f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
