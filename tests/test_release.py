"""What is released: a small wheel with all that the package needs, and the files of a project.

``make wheel`` installs it into an empty environment and runs the quickstart there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = (
    *("data/cells-digits.parquet", "searches/quickstart.yaml", "runs/report.html.j2", "py.typed"),
    *("visualization/colours.css", "service/openapi.json", "service/page/index.html"),
)


@pytest.mark.slow
def test_the_wheel_is_small_and_has_all_files_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    subprocess.run([*command, str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 15_000_000
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    inside = {name.removeprefix("nasplatform/") for name in names}
    assert set(NEEDED) <= inside
    listed = subprocess.run(
        ["git", "ls-files", "nasplatform"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.splitlines()) <= names
    foreign = {name for name in names if not name.startswith(("nasplatform/", "nasplatform-0"))}
    assert not foreign
    assert not {name for name in names if "__pycache__" in name or name.startswith("tests")}


def test_the_version_is_the_one_of_the_changelog_and_the_citation() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "keepachangelog.com" in text
    newest = re.search(r"^## \[([\d.]+)\] - (unreleased|\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert newest is not None
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest[1] == PROJECT["version"] == cited["version"]
    kinds = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_a_project_shows_is_there() -> None:
    for name in ("LICENSE", "SECURITY.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md"):
        assert (ROOT / name).read_text().strip()
    for template in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"):
        assert set(yaml.safe_load(template.read_text().split("---")[1])) >= {"name", "about"}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    ruff = next(one for one in hooks if "ruff" in one["repo"])
    pinned = re.search(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert ruff["rev"] == f"v{pinned[1]}"


def test_readme_fits_in_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
