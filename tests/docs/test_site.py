"""The site is built without a warning, and a link that leads nowhere is an error."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.search(r"^docs:.*\n\t.*\$\(BIN\)/python (.*)$", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.slow
@pytest.mark.parametrize("link", [None, "nowhere.md", "glossary.md#nothing"])
def test_make_docs_refuses_a_broken_link(link: str | None, tmp_path: Path) -> None:
    assert COMMAND is not None
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    if link is not None:
        with (tmp_path / "docs" / "faq.md").open("a") as page:
            page.write(f"\n[a link]({link})\n")
    done = subprocess.run(
        [sys.executable, *shlex.split(COMMAND[1])],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (link is None), done.stderr
    assert (tmp_path / "build" / "site" / "index.html").is_file() or link is not None
