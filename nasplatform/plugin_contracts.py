"""What a plug-in is, by its kind: looked at once, when it is imported, before anybody uses it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pydantic import BaseModel

_BASES = {
    "spaces": "nasplatform.spaces.base:Space",
    "encodings": "nasplatform.encodings.base:Encoding",
    "predictors": "nasplatform.predictors.base:Predictor",
    "evaluators": "nasplatform.evaluators.base:Evaluator",
    "stages": "nasplatform.stages.base:Stage",
    "samplers": "nasplatform.search.base:ArchitectureSampler",
    "runtimes": "nasplatform.runtimes.base:Runtime",
    "executors": "nasplatform.executors.base:Executor",
}
_FUNCTIONS = frozenset({"datasets", "networks", "edits"})


def complaint(kind: str, name: str, found: Any) -> str | None:
    """Return in what a plug-in is not what its kind asks for, in words; None where it is."""
    if kind in _FUNCTIONS:
        return None if callable(found) else f"it is a {type(found).__name__}, expected a function"
    module, _, base_name = _BASES[kind].partition(":")
    base: type = getattr(import_module(module), base_name)
    if kind == "encodings":
        kept = f"expected an {base_name}, as Encoding(function) makes one"
        return None if isinstance(found, base) else f"it is a {type(found).__name__}, {kept}"
    if not isinstance(found, type):
        return f"it is a {type(found).__name__}, expected a class"
    if not issubclass(found, base):
        return f"it is no subclass of {module}.{base_name}"
    return _of_class(found, name)


def _of_class(found: Any, name: str) -> str | None:
    if lacking := sorted(found.__abstractmethods__):
        return f"it does not define {', '.join(lacking)}"
    for attribute in _promised(found):
        if not hasattr(found, attribute):
            return f"it has no class attribute {attribute!r}"
    options = getattr(found, "Options", BaseModel)
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        return f"its Options are {options!r}, expected a subclass of pydantic.BaseModel"
    if found.name != name:
        return f"its class attribute 'name' is {found.name!r}, expected the registered {name!r}"
    return None


def _promised(found: type) -> list[str]:
    """Return the class attributes that the bases of the platform annotate, with a value or not."""
    return [
        attribute
        for base in found.__mro__
        if base.__module__.startswith("nasplatform.")
        for attribute, kind in vars(base).get("__annotations__", {}).items()
        if str(kind).startswith("ClassVar")
    ]
