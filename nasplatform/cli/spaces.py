"""``nasplatform spaces``: the published networks that are points of a space."""

from __future__ import annotations

from typing import Annotated

import typer

from nasplatform.cli.display import emit, say, show_table
from nasplatform.cli.imports import SpaceOptions, make_space
from nasplatform.cli.run import JsonFlag

app = typer.Typer(help="Look at search spaces.", no_args_is_help=True)
_HEADS = {
    "macs_without_attention": "without attention",
    "published_params_millions": "printed M",
    "published_macs_billions": "printed G",
}


@app.callback()
def _root() -> None:
    """Keep the name of the only command."""


@app.command()
def families(
    space: Annotated[str, typer.Argument(help="Name of the space; see `plugins`.")],
    option: SpaceOptions = None,
    as_json: JsonFlag = False,
) -> None:
    """List published networks that are points of a space: counted here, and as printed."""
    from nasplatform.models.published import describe_family

    made = make_space(space, option)
    known = made.families()
    if not known:
        say(f"space {made.name!r} names no published network")
    rows = [describe_family(made, family) for family in known]
    if as_json:
        emit(rows)
    elif rows:
        shown = [{_HEADS.get(name, name): value for name, value in row.items()} for row in rows]
        show_table(shown, shown[0])
