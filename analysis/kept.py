"""Results that a script keeps, to go on where it was broken off, are of one set of options."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from nasplatform.atomic_io import write_text


def keep_options(results: Path, options: argparse.Namespace, choosing: Iterable[str]) -> None:
    """Write the options that results are made with beside them, or see that they are the same.

    results:  a file or folder; the options are kept in the JSON file of its name.
    choosing: options that only choose which results are made or where they go; they may change.
    Leaves with exit code 2 where it holds results of others, or of nobody knows which.
    """
    given = {name: value for name, value in vars(options).items() if name not in set(choosing)}
    now = json.loads(json.dumps(given, default=str))
    path = results.with_suffix(".json")
    if not results.exists():
        write_text(path, json.dumps(now, indent=1, sort_keys=True) + "\n")
        return
    before = json.loads(path.read_text()) if path.exists() else {}
    others = sorted(
        name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
    )
    if others:
        told = ", ".join(f"{name} {before.get(name)} (now {now.get(name)})" for name in others)
        sys.stderr.write(f"error: {path} is of {told}: choose another folder\n")
        raise SystemExit(2)
