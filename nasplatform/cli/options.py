"""``nasplatform options``: every key of a file with its type, default and meaning."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nasplatform.cli.display import emit, say, show
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    from nasplatform.catalogue import Entry
    from nasplatform.options import Option


def options(
    kind: Annotated[
        str | None, typer.Argument(help="A kind of plug-in, e.g. stages; all of a file without.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="A plug-in of it, e.g. scop.")] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON schema of files, for editors.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say which keys a file may have, or what is registered of a kind, or the keys of one plug-in.

    Editors with a YAML language server read the schema where the first line of a file is
    `# yaml-language-server: $schema=FILE`.
    """
    from nasplatform.errors import ConfigError

    if json_schema:
        from nasplatform.file_schema import file_schema

        if kind is not None:
            raise ConfigError("--json-schema is of whole files: leave KIND out")
        sys.stdout.write(json.dumps(file_schema(), indent=1) + "\n")
    elif kind is None:
        _show_file(as_json)
    else:
        _show_plugins(kind, name, as_json)


def _show_file(as_json: bool) -> None:
    """Show the keys of both kinds of file."""
    from nasplatform.file_schema import KINDS_OF_KEYS, file_options

    found = file_options()
    if as_json:
        emit({title: [asdict(one) for one in keys] for title, keys in found.items()})
        return
    for title, keys in found.items():
        show(f"{title}:")
        for option in keys:
            _show_option(option, KINDS_OF_KEYS.get(option.key))
    show("see `nasplatform options KIND` and `nasplatform options KIND NAME`")


def _show_plugins(kind: str, name: str | None, as_json: bool) -> None:
    """Show what is registered of a kind, or one of them with its keys."""
    from nasplatform import plugins
    from nasplatform.catalogue import of_kind
    from nasplatform.errors import PluginError, did_you_mean

    plural = f"{kind}s" if f"{kind}s" in plugins.KINDS else kind
    known = of_kind(plural, say)
    if name is not None and name not in known:
        raise PluginError(f"unknown {plural.rstrip('s')} {name!r:.80}{did_you_mean(name, known)}")
    shown = known.values() if name is None else [known[name]]
    if as_json:
        emit([_row(entry) for entry in shown])
        return
    for entry in shown:
        show(f"{entry.name}: {entry.error or entry.summary}")
        for option in _options(entry) if name is not None else ():
            _show_option(option)


def _row(entry: Entry) -> dict[str, object]:
    told = {"kind": entry.kind, "name": entry.name, "summary": entry.summary}
    return {**told, "error": entry.error, "options": [asdict(one) for one in _options(entry)]}


def _options(entry: Entry) -> list[Option]:
    from nasplatform.options import options_in

    return [] if entry.schema is None else options_in(entry.schema)


def _show_option(option: Option, kind: str | None = None) -> None:
    shown = "required" if option.required else json.dumps(option.default, ensure_ascii=False)
    more = f"; see `nasplatform options {kind}`" if kind else ""
    if option.default is not None and isinstance(option.default, dict):
        shown = "a section"
    show(f"    {option.key} = {shown}  ({option.type})")
    if option.meaning or more:
        show(f"        {option.meaning.rstrip('.')}{more}")
