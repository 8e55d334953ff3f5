"""nasplatform: neural architecture search from few trained networks.

>>> import nasplatform
>>> run = nasplatform.run("searches/quickstart.yaml", out="runs/first")  # doctest: +SKIP
>>> space = nasplatform.get_space("nasbench101")
>>> space.format(space.parse("[3]11/1"))
'[3]11/1'

Names are loaded on first use, so that ``import nasplatform`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasplatform.predictors import get_predictor
    from nasplatform.runs.driver import compress, run
    from nasplatform.runs.frames import (
        list_runs,
        read_epochs,
        read_predictions,
        read_runs,
        read_stages,
        read_timings,
    )
    from nasplatform.runs.run import Run
    from nasplatform.spaces import get_space

__all__ = [
    "Run",
    "compress",
    "get_predictor",
    "get_space",
    "list_runs",
    "read_epochs",
    "read_predictions",
    "read_runs",
    "read_stages",
    "read_timings",
    "run",
]

_HOMES = {
    "Run": "runs.run",
    "compress": "runs.driver",
    "get_predictor": "predictors",
    "get_space": "spaces",
    "list_runs": "runs.frames",
    "read_epochs": "runs.frames",
    "read_predictions": "runs.frames",
    "read_runs": "runs.frames",
    "read_stages": "runs.frames",
    "read_timings": "runs.frames",
    "run": "runs.driver",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
