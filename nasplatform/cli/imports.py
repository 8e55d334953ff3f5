"""``nasplatform data import``: tables from published benchmarks and from anyone's measurements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli.display import done, say, watched
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    from nasplatform.spaces.base import Space

_IMPORTS = "nasplatform.benchmarks.imports"
IMPORTERS = {name: f"{_IMPORTS}.{name}:import_{name}" for name in ("nasbench101", "nasbench201")}
IMPORTERS |= {
    name: f"{_IMPORTS}.transformers:import_{name.replace('-', '_')}"
    for name in ("autoformer-tiny", "autoformer-small", "vitbench101-autoformer", "vitbench101-pit")
}
"""Name of a published benchmark -> ``module:function`` that turns a file of it into a table."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

SpaceOption = Annotated[str | None, typer.Option(help="Space of the architectures in FILE.")]
SpaceOptions = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option of the space.")
]
ScoreOption = Annotated[str | None, typer.Option(help="Column of the scores.")]
ArchitectureOption = Annotated[
    str | None, typer.Option(help="Column of the text forms.", show_default="architecture")
]
MinimizeFlag = Annotated[bool, typer.Option("--minimize", help="Less of the score is better.")]
SkipFlag = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out.")]


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE | NAME FILE",
            help=f"Own measurements with --space and --score (csv, tsv, parquet), or a published "
            f"benchmark ({', '.join(IMPORTERS)}) and its file.",
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Of a published benchmark.")
    ] = None,
    space: SpaceOption = None,
    option: SpaceOptions = None,
    score: ScoreOption = None,
    architecture: ArchitectureOption = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Known of an architecture before it is measured."),
    ] = None,
    minimize: MinimizeFlag = False,
    skip_bad: SkipFlag = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the table.", show_default="that of FILE")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the table.", show_default="the user's own")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a table of that name.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes, where the format allows.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Turn your own measurements, or a published benchmark's file, into a table.

    Rows of isomorphic architectures are repeated measurements. Further columns of numbers become
    metrics of the table, or attributes where --attribute names them.
    """
    from nasplatform.benchmarks.imports.own_table import OwnTable
    from nasplatform.errors import DataError

    if space is None and score is None:
        if file is None:
            if source in IMPORTERS:
                raise DataError(f"{source} needs its file: nasplatform data import {source} FILE")
            raise DataError(
                f"{source} is no published benchmark ({', '.join(IMPORTERS)}): own measurements "
                f"need --space and --score"
            )
        path = import_published(source, file, out, workers)
    elif file is not None or space is None or score is None:
        raise DataError("own measurements are imported by: data import FILE --space S --score C")
    else:
        asked = OwnTable(score, architecture, tuple(attribute or ()), minimize, skip_bad)
        made = make_space(space, option)
        path = _import_own(Path(source), made, asked, name, out, force)
    done(path.stem, "table", path, as_json)


def import_published(name: str, file: Path, out: Path | None = None, workers: int = 1) -> Path:
    """Turn the file of a published benchmark into a table; return the path of it."""
    from nasplatform.atomic_io import user_folder
    from nasplatform.errors import DataError, did_you_mean
    from nasplatform.foreign import blaming

    if name not in IMPORTERS:
        raise DataError(f"no benchmark to import is called {name!r}{did_you_mean(name, IMPORTERS)}")
    module, _, function = IMPORTERS[name].partition(":")
    importer = getattr(import_module(module), function)
    options: dict[str, Any] = {}
    if workers > 1:
        if "workers" not in signature(importer).parameters:
            raise DataError(f"{name} is read by one process: leave --workers out")
        options["workers"] = workers
    folder = user_folder() if out is None else out
    with (
        watched("import", f"reading {file.name}", "nothing was written") as progress,
        blaming(file, DataError, f"is no file of {name}, or damaged"),
    ):
        path: Path = importer(file, folder, progress, **options)
    return path


def make_space(name: str, options: Sequence[str] | None) -> Space[Any]:
    """Make the space that ``--space`` and ``--option`` describe."""
    from nasplatform.spaces import get_space
    from nasplatform.yaml_source import parse_overrides

    return get_space(name, **parse_overrides(options or (), "--option", "classes=10"))


def _import_own(
    file: Path, space: Space[Any], asked: Any, name: str | None, out: Path | None, force: bool
) -> Path:
    from nasplatform.atomic_io import require_place, user_folder
    from nasplatform.benchmarks.imports.own_table import import_own_table
    from nasplatform.benchmarks.registry import list_tables
    from nasplatform.errors import DataError
    from nasplatform.foreign import blaming

    if file.is_dir():
        raise DataError(f"{file} is a folder, expected a file of measurements")
    called = name or file.stem
    if not _NAME.fullmatch(called):
        raise DataError(f"table {called!r}: a name has letters, digits, '.', '_', '-'; use --name")
    folder = user_folder() if out is None else out
    require_place(folder / called, DataError)
    known = list_tables() if out is None else {}
    if not force and (called in known or (folder / f"{called}.json").exists()):
        raise DataError(f"a table is called {called!r} already: --name another, or --force")
    with (
        watched("import", f"reading {file.name}", "nothing was written") as progress,
        blaming(file, DataError, "cannot be imported"),
    ):
        progress(0, 1)
        path, notes = import_own_table(file, space, asked, called, folder)
        progress(1, 1)
    for note in notes:
        say(note)
    return path
