"""``nasplatform plugins``: what is registered, where it comes from, and what is broken."""

from __future__ import annotations

from nasplatform.cli.display import emit, say, show_table
from nasplatform.cli.run import JsonFlag


def plugins(as_json: JsonFlag = False) -> None:
    """List every plug-in: kind, name, distribution, version, and what broke."""
    from nasplatform.catalogue import catalogue

    columns = ["kind", "name", "origin", "version", "summary", "error"]
    rows = [{key: getattr(entry, key) for key in columns} for entry in catalogue(say)]
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["kind", "name", "origin", "version", "error"])
