"""Small wrong changes to the source, each of which tests must notice: a score for the tests.

    python analysis/mutants.py                     # all of tests/mutants/*.toml; resumable
    python analysis/mutants.py --out docs/mutants.md

A change names a file, a text that stands in it once, what stands there instead, and the tests that
must fall. It is made in a copy of the tree, never in the tree itself. What was tried is kept in
``runs/mutants.jsonl`` and tried again only where the change, its file or its tests are others now.
The exit code is 1 where a change no longer fits the source, where tests fail without any change,
where a room has less than 85 % killed, where a survivor has no reason, and where one that has a
reason is killed after all.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import hypothesis  # noqa: F401 -- this and others: before the forks, which would take seconds each
import optuna  # noqa: F401
import pandas as pd  # noqa: F401
import pytest
import pytest_benchmark.plugin  # noqa: F401
import sklearn.ensemble  # noqa: F401
import torch  # noqa: F401

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "tests" / "mutants"
KEPT = ROOT / "runs" / "mutants.jsonl"
WANTED = 0.85  # share of the changes of a room that must be killed
_PLUGINS = (
    *("-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider", "-p", "no:unraisableexception"),
)
PATIENCE = 300  # seconds of one run of tests; a change that makes them hang is noticed, too


@dataclass(frozen=True)
class Mutant:
    """One wrong change.

    room:     the list that it stands in.
    what:     what goes wrong, in a few words.
    file:     path in the repository; ``old`` stands in it once, and becomes ``new``.
    tests:    files, or names of tests, of which one must fall.
    survives: why nothing can notice it; empty where something must.
    """

    room: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""

    @cached_property
    def digest(self) -> str:
        """Identity of the change, its file and its tests as they stood when it was first asked."""
        parts = [self.old, self.new, *self.tests]
        paths = [self.file, *(test.split("::")[0] for test in self.tests)]
        parts += [(ROOT / path).read_text() for path in paths]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def fits(self) -> bool:
        """Whether the text to be changed stands in the file, once."""
        path = ROOT / self.file
        return path.exists() and path.read_text().count(self.old) == 1


def mutants(rooms: Iterable[str]) -> list[Mutant]:
    """Return the changes of some rooms, or of all where none are named."""
    wanted = set(rooms)
    found = []
    for path in sorted(LISTS.glob("*.toml")):
        if not wanted or path.stem in wanted:
            entries = tomllib.loads(path.read_text())["mutant"]
            found += [Mutant(path.stem, **{**e, "tests": tuple(e["tests"])}) for e in entries]
    return found


class Copy:
    """A copy of the tree in which one change at a time is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)

    def outcome(self, mutant: Mutant) -> str:
        """Return ``killed``, ``survived`` or ``broken``: the tests did not come to run."""
        path = self.folder / mutant.file
        text = path.read_text()
        try:
            self._write(path, text.replace(mutant.old, mutant.new))
            code = self.test(mutant.tests)
        finally:
            self._write(path, text)
        return {0: "survived", 1: "killed"}.get(code, "broken")

    def test(self, tests: Sequence[str]) -> int:
        """Return the exit code of pytest in the copy, 1 where it hangs."""
        child = os.fork()  # what takes seconds to import is there already
        if not child:
            os._exit(self._run(tests))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return 1 if code == -signal.SIGALRM else code

    def _run(self, tests: Sequence[str]) -> int:
        """Run pytest in this process, which came of a fork and ends with it."""
        os.chdir(self.folder)
        os.environ["PYTHONPATH"] = str(self.folder)  # for processes that tests start
        sys.path.insert(0, str(self.folder))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        signal.alarm(PATIENCE)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer than most tests
        return int(pytest.main(["-x", *_PLUGINS, *tests]))

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Python takes a file of the same size and second for unchanged
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def tried(path: Path) -> dict[str, str]:
    """Return digest -> outcome of what was tried before."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {one["digest"]: one["outcome"] for one in map(json.loads, lines)}


def try_all(chosen: Sequence[Mutant], kept: Path) -> dict[str, str]:
    """Try what was not tried yet, one line of the file after the other; return all outcomes."""
    known = tried(kept)
    left = [mutant for mutant in chosen if mutant.digest not in known]
    if not left:
        return known
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, kept.open("a") as file:
        copy = Copy(Path(folder))
        for test in sorted({test for mutant in left for test in mutant.tests}):
            if copy.test([test]) != 0:
                raise SystemExit(
                    f"error: {test} fails, or hangs, without any change: mend it first"
                )
        for place, mutant in enumerate(left):
            outcome = known[mutant.digest] = copy.outcome(mutant)
            file.write(json.dumps({"digest": mutant.digest, "outcome": outcome}) + "\n")
            file.flush()
            said = f"{place + 1}/{len(left)} {outcome}: {mutant.what} ({mutant.file})\n"
            sys.stderr.write(said)
    return known


def report(chosen: Sequence[Mutant], outcomes: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a table with the score of each room and the survivors, and what is wrong."""
    lines = ["| room | changes | killed | score |", "|---|---|---|---|"]
    wrong = []
    results = [(mutant, outcomes[mutant.digest]) for mutant in chosen]
    for room in dict.fromkeys(mutant.room for mutant in chosen):
        here = [outcome for mutant, outcome in results if mutant.room == room]
        share = here.count("killed") / len(here)
        lines.append(f"| {room} | {len(here)} | {here.count('killed')} | {share:.0%} |")
        if share < WANTED:
            wrong.append(f"{room}: {share:.0%} killed, at least {WANTED:.0%} are wanted")
    killed = [outcome for _, outcome in results].count("killed")
    lines.append(f"| **all** | {len(results)} | {killed} | **{killed / len(results):.0%}** |")
    lines += ["", "| survivor | file | why nothing notices |", "|---|---|---|"]
    for mutant, outcome in results:
        if outcome == "survived":
            lines.append(f"| {mutant.what} | `{mutant.file}` | {mutant.survives or '**?**'} |")
        if outcome == "broken":
            wrong.append(f"{mutant.file}: {mutant.what}: the tests could not run")
        elif (outcome == "survived") != bool(mutant.survives):
            reason = "no reason says why" if outcome == "survived" else "its reason does not hold"
            wrong.append(f"{mutant.file}: {mutant.what}: {outcome}, {reason}")
    return "\n".join(lines) + "\n", wrong


def document(table: str) -> str:
    """Return the page of the documentation."""
    return (
        "# What the tests notice\n\n"
        "Small wrong changes to the source (`tests/mutants/*.toml`), each made alone in a copy of "
        "the tree; one of the tests that it names must fall. Made by `make mutants`; "
        f"a room must have {WANTED:.0%} killed, and each survivor a reason.\n\n{table}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("rooms", nargs="*", help="lists in tests/mutants; all if absent")
    parser.add_argument("--out", type=Path, help="write the table as a page")
    given = parser.parse_args(arguments)
    chosen = mutants(given.rooms)
    stale = [mutant for mutant in chosen if not mutant.fits]
    for mutant in stale:
        sys.stderr.write(
            f"error: {mutant.room}: {mutant.what}: its text does not stand in {mutant.file} "
            "exactly once any more\n"
        )
    if stale:
        return 1
    table, wrong = report(chosen, try_all(chosen, KEPT))
    sys.stdout.write(table)
    if given.out:
        from nasplatform.atomic_io import write_text  # not before the forks: they have their own

        write_text(given.out, document(table))
    for words in wrong:
        sys.stderr.write(f"error: {words}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
