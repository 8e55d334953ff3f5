"""Results that a script keeps, to go on where it was broken off, are of one set of options."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from nasplatform.atomic_io import write_text


def keep_options(path: Path, options: argparse.Namespace, choosing: Iterable[str]) -> None:
    """Write the options that results are made with beside them, or see that they are the same.

    path:     a JSON file beside the results.
    choosing: options that only choose which results are made or where they go; they may change.
    Leaves with exit code 2 where other results are kept there.
    """
    given = {name: value for name, value in vars(options).items() if name not in set(choosing)}
    now = json.loads(json.dumps(given, default=str))
    if not path.exists():
        write_text(path, json.dumps(now, indent=1, sort_keys=True) + "\n")
        return
    before = json.loads(path.read_text())
    others = sorted(
        name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
    )
    if others:
        told = ", ".join(f"{name} {before.get(name)} (now {now.get(name)})" for name in others)
        sys.stderr.write(f"error: {path} is of {told}: choose another folder\n")
        raise SystemExit(2)
