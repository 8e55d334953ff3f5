"""The predictor as an HTTP service: store, engine, application, page and client.

Needs the extra ``service``; ``PredictorClient`` and ``AsyncPredictorClient`` need only httpx,
``PredictorStore`` needs nothing beyond the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nasplatform.service.store import PredictorStore

if TYPE_CHECKING:
    from nasplatform.service.app import create_app
    from nasplatform.service.client import AsyncPredictorClient, PredictorClient
    from nasplatform.service.settings import Settings

__all__ = [
    "AsyncPredictorClient",
    "PredictorClient",
    "PredictorStore",
    "Settings",
    "create_app",
]

_LAZY = {
    "AsyncPredictorClient": "client",
    "PredictorClient": "client",
    "Settings": "settings",
    "create_app": "app",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from nasplatform.errors import MissingExtraError

    try:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("nasplatform"):
            raise
        raise MissingExtraError(
            f"{name} needs {error.name}: pip install 'nasplatform[service]'"
        ) from error
