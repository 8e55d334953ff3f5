"""The wrong changes of ``make mutants`` still fit the source, and name tests that exist."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHANGES = [
    change
    for path in sorted((ROOT / "tests" / "mutants").glob("*.toml"))
    for change in tomllib.loads(path.read_text())["mutant"]
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change["what"])
def test_a_wrong_change_fits(change: dict[str, str]) -> None:
    assert (ROOT / change["file"]).read_text().count(change["old"]) == 1
    for name in change["tests"]:
        path, place, *_ = (*name.split("::"), "")  # a test of a class may be inherited
        assert place.split("[")[0] in (ROOT / path).read_text()
