"""What the site shows beside the files of this folder: documents of the project's root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the documents of the root, with links as they are seen from here."""
    for source, place in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to documents of the root to their pages."""
    for source, place in SHOWN.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}", f"]({_up(page)}{place}", markdown)
    return markdown


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")
