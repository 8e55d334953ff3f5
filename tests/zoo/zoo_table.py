"""Send the zoo, or a part of it, through every stage and write the table of what came of it.

    python tests/zoo/zoo_table.py --out docs/zoo.md
    python tests/zoo/zoo_table.py --out docs/zoo.md --only gates weight_normed

What is finished is kept in ``--results`` and not computed again; delete that file to start anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from zoo_members import Member
from zoo_stages import COLUMNS, Outcome, every_member, expected, through_stages, zoo_task

INTRODUCTION = """# The zoo: networks that people bring, through every stage

{count} of the {every} small networks of `tests/zoo` through the check, `train`, `disout`, `scop`
twice (30 % of the channels, then 80 % of the multiply-adds that are left), saved, loaded (equal to
1e-5), exported to ONNX. `make zoo` makes this table; tests of every change send a part.

**result**: the stage did its work. **n pinned**: it did, and named n reasons why channels stay.
**refused**: one line says why, below the table; the other stages go on without it.

Of {taken} networks that pass the check {pruned} are really pruned ({share:.0%}), {whole} of these
with nothing pinned.
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("runs/zoo.jsonl"))
    parser.add_argument("--only", nargs="*", help="names or kinds; all by default")
    return parser.parse_args()


def finished(path: Path) -> dict[str, Outcome]:
    """Read the outcomes that are known."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row.pop("name"): Outcome(**row) for row in rows}


def chosen(only: list[str] | None) -> Iterator[Member]:
    for member in every_member():
        if not only or member.name in only or member.kind in only:
            yield member


def table(found: dict[str, Outcome]) -> str:
    """Return the document."""
    members = [member for member in every_member() if member.name in found]
    taken = [found[member.name] for member in members if found[member.name].taken]
    pruned = [outcome for outcome in taken if outcome.pruned]
    text = INTRODUCTION.format(
        count=len(members),
        every=len(every_member()),
        taken=len(taken),
        pruned=len(pruned),
        share=len(pruned) / max(1, len(taken)),
        whole=sum(not outcome.pins for outcome in pruned),
    )
    lines = [f"| kind | network | {' | '.join(COLUMNS)} | MACs left | parameters left |"]
    lines.append("|---" * (len(COLUMNS) + 4) + "|")
    notes = []
    for member in members:
        outcome = found[member.name]
        words = [outcome.words.get(column, "") for column in COLUMNS]
        shares = [f"{outcome.macs:.2f}", f"{outcome.params:.2f}"] if outcome.pruned else ["", ""]
        name = member.name.replace("_", " ")
        lines.append(f"| {member.kind} | {name} | {' | '.join([*words, *shares])} |")
        plain = (note.replace("](", "] (") for note in (*outcome.notes, *outcome.pins))
        notes += [f"- {name}: {note}" for note in plain]  # no link in Markdown
    return "\n".join([text, *lines, "", "## What was refused or pinned, and why", "", *notes, ""])


def main() -> int:
    """Run what is missing; return how many came out otherwise than they ought to."""
    options = arguments()
    torch.set_num_threads(1)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    found, task, wrong = finished(options.results), zoo_task(), 0
    for member in chosen(options.only):
        if member.name not in found:
            with tempfile.TemporaryDirectory() as folder:
                outcome = through_stages(member, task, Path(folder) / "run")
                outcome.notes = [note.replace(f"{folder}/run/", "") for note in outcome.notes]
            found[member.name] = outcome
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": member.name, **asdict(outcome)}) + "\n")
        complaint = expected(member, found[member.name])
        wrong += bool(complaint)
        if complaint:
            print(f"{member.name}: {complaint}", file=sys.stderr, flush=True)  # noqa: T201
    options.out.write_text(table(found), encoding="utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(), 1))
