"""``nasplatform data``: benchmark tables and data sets, at hand and to be had."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli import imports
from nasplatform.cli.display import done, emit, say, show_table, watched
from nasplatform.cli.imports import IMPORTERS, import_published
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    from nasplatform.fetch import Download

app = typer.Typer(
    help="List, fetch, import, build and verify benchmark tables and data sets.",
    no_args_is_help=True,
)
app.command("import")(imports.import_)
_MEBIBYTE = 1 << 20


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the tables and data sets at hand, and how to get the others."""
    from nasplatform.benchmarks.registry import list_tables

    tables = [_table_row(name, path) for name, path in list_tables().items()]
    images = [row for row in _image_rows() if row["at_hand"]]
    missing = [*_missing_tables(tables), *(row for row in _image_rows() if not row["at_hand"])]
    if as_json:
        emit([*tables, *images, *missing])
        return
    columns = ["name", "space", "architectures", "metrics", "epochs", "seeds", "path"]
    show_table([row for row in tables if not row["error"]], columns, "Tables at hand")
    if images:
        show_table(images, ["name", "about", "path"], "Data sets at hand")
    if missing:
        show_table(missing, ["name", "about", "mebibytes", "command"], "To be had")
    for row in tables:
        if row["error"]:
            say(f"not readable: {row['error']}")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Tables; all where none given.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read tables and compare them with the digests on their cards; exit 2 for a damaged one."""
    from nasplatform.benchmarks.registry import list_tables, load_table
    from nasplatform.errors import DataError

    rows: list[dict[str, Any]] = []
    for name in names or list(list_tables()):
        say(f"reading {name}")
        try:
            table = load_table(name)
            rows.append({"table": name, "ok": True, "sha256": table.digest, "error": None})
        except DataError as error:
            rows.append({"table": name, "ok": False, "sha256": None, "error": str(error)})
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["table", "ok", "sha256", "error"])
    broken = [row for row in rows if not row["ok"]]
    if broken:
        raise DataError(str(broken[0]["error"]))


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Name of an embedded set-up, e.g. cells-digits.")],
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("data"),
    workers: Annotated[
        int, typer.Option(min=1, help="Processes.", show_default="all cores")
    ] = os.cpu_count() or 1,
    as_json: JsonFlag = False,
) -> None:
    """Train every network of an embedded set-up and write its table; resumes where it stopped."""
    from nasplatform.benchmarks.embedded import build as build_table
    from nasplatform.benchmarks.embedded import get_setup

    setup = get_setup(name)
    with watched("build", f"training {name}", "what was trained is kept") as progress:
        path = build_table(setup, out, workers, progress)
    done(name, "table", path, as_json)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete them.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List decoded images that are kept on disk; what is deleted is decoded again when needed.

    They are large, and those of other files, or of files that have changed, are never read again.
    A training that is reading one at this moment fails when it is deleted.
    """
    from nasplatform.training.decoding import cache_folder

    folders = sorted(path for path in cache_folder().glob("*") if path.is_dir())
    rows = [_cache_row(folder) for folder in folders]
    for folder in folders if clear else []:
        shutil.rmtree(folder)
    if as_json:
        emit(rows)
    else:
        title = f"{'Deleted from' if clear else 'In'} {cache_folder()}"
        show_table(rows, ["name", "mebibytes", "last_used"], title)


def _cache_row(folder: Path) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in folder.iterdir())
    used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    return {
        "name": folder.name,
        "mebibytes": -(-size // _MEBIBYTE),
        "last_used": used.isoformat(" ", "seconds"),
    }


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="What to fetch; `data list` names it.")],
    full: Annotated[bool, typer.Option(help="The larger edition, where there is one.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the downloaded file of a table.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Download a benchmark or a data set, check it and make it ready; resumes where it stopped."""
    from nasplatform.errors import DataError
    from nasplatform.fetch import catalogue, get_download

    if full and name in catalogue() and f"{name}-full" not in catalogue():
        raise DataError(f"{name} has no larger edition: leave --full out")
    download = get_download(f"{name}-full" if full else name)
    for file in download.files:
        if file.sha256 is None:
            say(f"no digest of {file.name} is published: this first download is taken on trust")
    path = _fetch_table(download, keep) if download.kind == "table" else _fetch_images(download)
    done(path.stem, "table" if download.kind == "table" else "data set", path, as_json)


def _fetch_table(download: Download, keep: bool) -> Path:
    """Download a table's file and import it, unless that very file was imported before."""
    from nasplatform.benchmarks.registry import list_tables
    from nasplatform.benchmarks.table import read_table_card

    importer = str(download.importer)
    known = list_tables().get(importer)
    digests = {file.sha256 for file in download.files}
    if known is not None and read_table_card(known).get("file_sha256") in digests:
        say(f"{importer} is at hand already, from this very file")
        return known
    folder = _download(download)
    path = import_published(importer, folder / download.files[0].name)
    if not keep:
        shutil.rmtree(folder)
    return path


def _fetch_images(download: Download) -> Path:
    """Download a data set and move it, whole, to where the data set plug-ins look for it."""
    from nasplatform.atomic_io import datasets_folder, replace_folder
    from nasplatform.fetch import unpack

    target = datasets_folder() / download.name
    if target.is_dir():
        say(f"{download.name} is at hand already; remove {target} to fetch it afresh")
        return target
    folder = _download(download)
    if download.unpack:
        say(f"unpacking {download.files[0].name}")
        unpack(folder / download.files[0].name, target)
    else:
        with replace_folder(target) as temporary:
            for file in download.files:
                shutil.copy(folder / file.name, temporary / file.name)
    shutil.rmtree(folder)
    return target


def _download(download: Download) -> Path:
    """Download the files of an entry; return the folder that they are in."""
    from nasplatform.atomic_io import user_folder
    from nasplatform.fetch import fetch as fetch_file

    folder = user_folder() / "downloads" / download.name
    for file in download.files:
        with watched("fetch", f"{file.name}, MiB", "what has come is kept") as progress:
            fetch_file(file, folder, _in_mebibytes(progress))
    return folder


def _in_mebibytes(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    return lambda done, total: progress(-(-done // _MEBIBYTE), -(-total // _MEBIBYTE))


def _table_row(name: str, path: Path) -> dict[str, Any]:
    from nasplatform.benchmarks.table import read_table_card
    from nasplatform.errors import DataError

    row = {"name": name, "kind": "table", "at_hand": True, "path": str(path), "error": None}
    try:
        return row | _facts(read_table_card(path))
    except DataError as error:
        return row | {"error": str(error)}


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "space": card["space"]["name"],
        "architectures": card["architectures"],
        "complete": card.get("complete", True),
        "metrics": ", ".join(card["metrics"]),
        "epochs": ", ".join(map(str, card["fidelities"])),
        "seeds": card["seeds"],
        "licence": card.get("licence"),
        "sha256": card["sha256"],
    }


def _missing_tables(tables: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Say how to get each table that is not at hand: build, fetch or import it."""
    from nasplatform.benchmarks.embedded import SETUPS
    from nasplatform.benchmarks.published import PUBLISHED
    from nasplatform.fetch import catalogue

    there = {row["name"] for row in tables}
    for setup in SETUPS.values():
        if setup.name not in there:
            about = f"{setup.space['name']} networks trained on {setup.dataset}"
            yield _missing(setup.name, about, f"nasplatform data build {setup.name}")
    fetched = [entry for entry in catalogue().values() if entry.kind == "table"]
    for entry in fetched:
        if entry.importer not in there:
            command = f"nasplatform data fetch {entry.name}"
            yield _missing(entry.name, entry.about, command, entry)
    for name in IMPORTERS.keys() - {entry.importer for entry in fetched} - there:
        command = f"nasplatform data import {name} FILE"
        yield _missing(name, f"{PUBLISHED[name].files}, from {PUBLISHED[name].page}", command)


def _missing(name: str, about: str, command: str, entry: Download | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "table",
        "at_hand": False,
        "about": about,
        "command": command,
        **_offer(entry),
    }


def _image_rows() -> Iterator[dict[str, Any]]:
    from nasplatform.atomic_io import datasets_folder
    from nasplatform.fetch import catalogue

    for entry in catalogue().values():
        if entry.kind == "images":
            folder = datasets_folder() / entry.name
            yield {
                "name": entry.name,
                "kind": "data set",
                "at_hand": folder.is_dir(),
                "about": entry.about,
                "path": str(folder),
                "command": f"nasplatform data fetch {entry.name}",
                **_offer(entry),
            }


def _offer(entry: Download | None) -> dict[str, Any]:
    size = entry and entry.bytes
    return {
        "mebibytes": -(-size // _MEBIBYTE) if size else None,
        "licence": entry and entry.licence,
        "page": entry and entry.page,
    }
