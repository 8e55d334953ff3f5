"""``nasplatform serve``: predictors as an HTTP service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli.display import say, show

if TYPE_CHECKING:
    from nasplatform.service.settings import Settings
    from nasplatform.service.store import PredictorStore


def serve(
    predictors: Annotated[
        Path | None, typer.Option(help="Folder of predictors, NAME/VERSION; made if missing.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Publish a fitted predictor, or a run's, before serving."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    api_keys: Annotated[Path | None, typer.Option(help="File of hashed keys.")] = None,
    add_key: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Add a key to --api-keys, print it once, and end."),
    ] = None,
    scopes: Annotated[str, typer.Option(help="Of --add-key: read, or read,write.")] = "read",
    runs: Annotated[Path | None, typer.Option(help="Folder of runs that the page shows.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A limit of the service.")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Log warnings only, not every request.")] = False,
) -> None:
    """Serve predictors over HTTP, with a page at / and the API at /docs."""
    if add_key is not None:
        _add_key(api_keys, add_key, scopes)
        return
    from nasplatform.errors import ConfigError
    from nasplatform.plugins import make_options
    from nasplatform.service import PredictorStore
    from nasplatform.service.security import KeyFile, is_loopback
    from nasplatform.service.settings import Settings
    from nasplatform.yaml_source import parse_overrides

    if predictors is None:
        raise ConfigError("--predictors: the folder of predictors is missing")
    if api_keys is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: others may reach this address, so it needs --api-keys FILE; "
            f"make one with: nasplatform serve --api-keys FILE --add-key ID"
        )
    if api_keys is not None:
        KeyFile(api_keys)  # a file without keys is told before anything listens
    values = {**parse_overrides(settings or []), "api_keys": api_keys, "runs": runs}
    options = make_options(Settings, values, "serve")
    assert isinstance(options, Settings)
    added = [text.partition("=")[::2] for text in add or []]
    for text, (_, folder) in zip(add or [], added, strict=True):
        if not folder:
            raise ConfigError(f"--add {text}: expected NAME=FOLDER")
    if not predictors.exists():
        say(f"{predictors} is not there: it is made, and is empty")
    store = PredictorStore(predictors)
    for name, folder in added:
        say(f"published {store.publish_folder(name, folder).label}")
    _listen(store, options, host, port, quiet)


def _add_key(path: Path | None, identity: str, scopes: str) -> None:
    from nasplatform.errors import ConfigError
    from nasplatform.service.security import add_key

    if path is None:
        raise ConfigError("--add-key: say where the keys are by --api-keys FILE")
    wanted: Any = frozenset(part.strip() for part in scopes.split(","))
    show(add_key(path, identity, wanted))
    say(f"only its hash stands in {path}: keep it now, it cannot be shown again")


def _listen(store: PredictorStore, options: Settings, host: str, port: int, quiet: bool) -> None:
    import logging

    from nasplatform.errors import MissingExtraError
    from nasplatform.service import create_app

    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError("serve needs uvicorn: pip install 'nasplatform[service]'") from None
    from nasplatform.service.middleware import log_to_stderr
    from nasplatform.service.server import bound, server_config

    if not store.names():
        say("warning: nothing to serve yet; --add NAME=FOLDER publishes a predictor or a run")
    taken = bound(host, port)
    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    # A short interval lets the event loop answer while the inference thread runs Python.
    sys.setswitchinterval(0.001)
    config = server_config(create_app(store, options), options)
    taken.listen(2048)  # from here on a connection waits for the predictors to be loaded
    shown = f"[{host}]" if ":" in host else host
    count = len(store.names())
    served = f"{count} predictor{'s' * (count != 1)}"
    say(f"serving {served} at http://{shown}:{taken.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[taken])
