"""``nasplatform plugins``: what is registered, where it comes from, and what is broken."""

from __future__ import annotations

from dataclasses import asdict

from nasplatform.cli.display import emit, say, show_table
from nasplatform.cli.run import JsonFlag


def plugins(as_json: JsonFlag = False) -> None:
    """List every plug-in: kind, name, distribution, version, and what broke."""
    from nasplatform.plugins import describe

    say("loading every plug-in")
    rows = [asdict(info) for info in describe()]
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["kind", "name", "origin", "version", "error"])
