"""The page of cards says what the cards say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cards.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]
TABLES = [cell.strip("`") for cell in ROWS[0][1:]]


@pytest.mark.parametrize("column", range(1, 1 + len(TABLES)), ids=TABLES)
def test_a_benchmark_is_what_its_card_says(column: int) -> None:
    told = {row[0]: row[column] for row in ROWS[1:]}
    card = json.loads((ROOT / "data" / f"{TABLES[column - 1]}.json").read_text())
    shares = [card["quantiles"][q] for q in ("0.0", "0.5", "1.0")]

    assert told == {
        "architectures": f"{card['architectures']:,}",
        "space": f"`{card['space']['name']}`",
        "repetitions, at most": str(card["seeds"]),
        "epochs that were recorded": ", ".join(map(str, card["fidelities"])),
        "validation accuracy: worst, median, best": ", ".join(f"{s:.3f}" for s in shares),
        "noise ceiling (Kendall's tau between halves of the seeds)": (
            f"{next(iter(card['ceiling'].values())):.3f}"
        ),
    }


def test_every_embedded_table_has_its_column() -> None:
    assert sorted(TABLES) == sorted(file.stem for file in (ROOT / "data").glob("*.json"))


def test_the_weights_that_ship_are_named_and_small() -> None:
    shipped = list((ROOT / "nasplatform").glob("**/*.safetensors"))
    assert {file.name for file in shipped} == set(re.findall(r"`([\w-]+\.safetensors)`", PAGE))
    assert sum(file.stat().st_size for file in shipped) < 500_000
