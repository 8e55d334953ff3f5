"""What the site shows beside the files of this folder.

Documents of the project's root, and the reference of search files, which is made from the models.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from nasplatform.catalogue import Entry, of_kind
from nasplatform.file_schema import KINDS_OF_KEYS, file_options
from nasplatform.options import Option, options_in

ROOT = Path(__file__).parents[1]
SHOWN = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the documents of the root, with links as they are seen from here."""
    for source, place in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        text = text.replace("](README.md)", "](index.md)")
        files.append(File.generated(config, place, content=text))
    files.append(File.generated(config, "reference/files.md", content=_files_page()))
    return files


def _files_page() -> str:
    parts = ["# Search files", "Every key, as `nasplatform options` says it on the command line."]
    parts += [
        "An editor with a YAML language server completes and checks keys where the first line"
    ]
    parts += ["of a file is `# yaml-language-server: $schema=FILE`, and FILE was made by"]
    parts += ["`nasplatform options --json-schema > FILE`.\n"]
    for title, options in file_options().items():
        parts += [f"## {title[0].upper()}{title[1:]}\n", _table(options)]
    for kind in dict.fromkeys(KINDS_OF_KEYS.values()):
        parts.append(f"## {kind.capitalize()}\n")
        parts += [_plugin(entry) for entry in of_kind(kind).values()]
    return "\n".join(parts)


def _plugin(entry: Entry) -> str:
    options = options_in(entry.schema) if entry.schema else []
    return f"### `{entry.name}`\n\n{entry.summary}\n\n{_table(options) if options else ''}"


def _table(options: list[Option]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for one in options:
        default = "required" if one.required else f"`{_cell(json.dumps(one.default))}`"
        meaning = _cell(" ".join((one.meaning or "").split()))
        lines.append(f"| `{one.key}` | {_cell(one.type)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to documents of the root to their pages; a figure and its error stay on a line."""
    for source, place in SHOWN.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}", f"]({_up(page)}{place}", markdown)
    return re.sub(r"(?<=\d) ± (?=[\d.])", "\u00a0±\u00a0", markdown)


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")
