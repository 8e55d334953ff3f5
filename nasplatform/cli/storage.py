"""``nasplatform status``, ``requeue`` and ``db``: a storage that several machines share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli.display import emit, show, show_table
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    from nasplatform.evaluators.base import ErrorClass

app = typer.Typer(
    help="The tables in a storage: their version, and how to bring it up.", no_args_is_help=True
)
StorageOption = Annotated[
    str, typer.Option(help="URL, postgresql+psycopg://..., sqlite:///... or journal:///...")
]


def status(
    storage: StorageOption,
    every: Annotated[
        float | None, typer.Option(min=0.2, help="Look again each so many seconds, until Ctrl-C.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show who works on a storage: searches, workers, leases, dead measurements, throughput."""
    from nasplatform.executors.store.status import status_of

    looked = status_of(storage)
    try:
        while True:
            found = looked.look()
            emit(found) if as_json else _show(found)
            if every is None:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return
    finally:
        looked.close()


def requeue(
    storage: StorageOption,
    error_class: Annotated[
        str | None, typer.Option("--class", help="Only the dead of this class, e.g. transient.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let dead measurements be made again: what broke them is mended."""
    from typing import cast, get_args

    from nasplatform.errors import InputError, did_you_mean
    from nasplatform.evaluators.base import ErrorClass as Known
    from nasplatform.search.requeue import requeue as requeue_in

    known = get_args(Known)
    if error_class is not None and error_class not in known:
        raise InputError(f"--class {error_class!r}: unknown{did_you_mean(error_class, known)}")
    count = requeue_in(storage, cast("ErrorClass | None", error_class))
    if as_json:
        emit({"requeued": count})
    else:
        show(f"{count} measurements may be made again")


@app.command()
def current(storage: StorageOption, as_json: JsonFlag = False) -> None:
    """Show the version of the tables, and the one that this nasplatform works with."""
    from nasplatform.executors.store import upgrade as versions
    from nasplatform.executors.store.schema import HEAD

    found = versions.current(storage)
    if as_json:
        emit({"version": found, "wanted": HEAD})
    else:
        show(f"version {found or 'none'}, this nasplatform works with {HEAD}")


@app.command()
def upgrade(storage: StorageOption, as_json: JsonFlag = False) -> None:
    """Bring the tables to the version of this nasplatform; all or nothing."""
    from nasplatform.executors.store import upgrade as versions
    from nasplatform.executors.store.schema import HEAD

    before = versions.upgrade(storage)
    if as_json:
        emit({"before": before, "version": HEAD})
    else:
        show(f"version {HEAD}" + (" already" if before == HEAD else f", before {before or 'none'}"))


@app.command()
def check(storage: StorageOption, as_json: JsonFlag = False) -> None:
    """Exit with 2 unless a search would start on these tables; change nothing."""
    from nasplatform.errors import RunError
    from nasplatform.executors.store import upgrade as versions
    from nasplatform.executors.store.schema import HEAD, other_version
    from nasplatform.passwords import without_password

    found = versions.current(storage)
    if found not in (None, HEAD):
        raise RunError(f"{without_password(storage)}: {other_version(str(found))}")
    if as_json:
        emit({"version": found, "wanted": HEAD, "fits": True})
    else:
        show(f"version {found}" if found else "no tables yet; the first search makes them")


def _show(found: dict[str, Any]) -> None:
    spans = found["throughput"]
    show(
        f"{found['storage']}: {found['records']} records, {spans['last_minute']} in the last "
        f"minute, {spans['last_ten_minutes']} in ten, {spans['last_hour']} in the last hour"
    )
    show_table(found["searches"], ["name", "admitted", "budget"], "Searches")
    columns = ["id", "search", "host", "pid", "state", "begun", "seen", "measured"]
    show_table(found["workers"], columns, "Workers (seconds ago)")
    if found["leases"]:
        show_table(found["leases"], ["hash", "owner", "attempt", "seconds"], "Being measured")
    if found["dead"]:
        show_table(found["dead"], ["hash", "error_class", "attempts", "error"], "Dead")
        show("mended? nasplatform requeue --storage URL")
