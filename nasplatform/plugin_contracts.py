"""What a plug-in is, by its kind: looked at when it is imported, and again when it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import BaseModel

from nasplatform.errors import ContractError

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
_FUNCTIONS = {"datasets": ("options",), "networks": ("options",), "edits": ("module", "payload")}
_LEFT_BY_INIT = {"predictors": "_like", "samplers": "_proposals", "runtimes": "name"}
"""What the constructor of a base leaves behind, where that is not ``options``."""
INPUT = ("input_shape", "classes")
"""Options by which data tell a network or a space what it is for."""


def complaint(kind: str, name: str, found: Any) -> str | None:
    """Return in what a plug-in is not what its kind asks for, in words; None where it is."""
    if kind in _FUNCTIONS:
        return _of_function(kind, found)
    base = _base(kind)
    if kind == "encodings":
        kept = f"expected an {base.__name__}, as Encoding(function) makes one"
        return None if isinstance(found, base) else f"it is a {type(found).__name__}, {kept}"
    if not isinstance(found, type):
        return f"it is a {type(found).__name__}, expected a class"
    if not issubclass(found, base):
        return f"it is no subclass of {base.__module__}.{base.__name__}"
    return _of_class(found, name)


def called(what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a plug-in; raise ContractError, beginning with ``what``, where it takes otherwise."""
    if (lacks := _misfit(function, args, kwargs)) is not None:
        raise ContractError(f"{what}: {lacks}")
    return function(*args, **kwargs)


def check_made(kind: str, what: str, made: object) -> None:
    """Raise ContractError unless a plug-in was made, and its base's constructor was called."""
    base = _base(kind)
    if not isinstance(made, base):
        raise ContractError(f"{what} is made as a {type(made).__name__}, expected {_a(base)}")
    if not hasattr(made, _LEFT_BY_INIT.get(kind, "options")):
        raise ContractError(f"{what}: {type(made).__name__}.__init__ must call super().__init__")


def check_reason(what: str, answer: object) -> str | None:
    """Return a reason in words, or None for no reason; raise ContractError for anything else."""
    if answer is None or (isinstance(answer, str) and answer):
        return answer
    raise ContractError(f"{what} returned {answer!r:.40}, expected None, or why not in words")


def options_model(function: Callable[..., Any]) -> type[BaseModel]:
    """Return the pydantic model that a data set or network takes, read from its annotation."""
    if (lacks := _of_signature(function, ("options",))) is not None:
        raise ContractError(lacks)
    (parameter, *_) = inspect.signature(function).parameters
    try:
        found = get_type_hints(function).get(parameter)
    except Exception as error:  # whatever the evaluation of a third party's annotations raises
        raise ContractError(f"its annotations cannot be read: {error}") from None
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise ContractError(
            f"its argument {parameter!r} is not annotated with a pydantic model, as in "
            f"'{function.__name__}({parameter}: Options)'"
        )
    return found


def _base(kind: str) -> type:
    module, _, name = _BASES[kind].partition(":")
    base: type = getattr(import_module(module), name)
    return base


def _a(base: type) -> str:
    return f"{'an' if base.__name__[0] in 'AEIOU' else 'a'} {base.__name__}"


def _of_function(kind: str, found: Any) -> str | None:
    if not callable(found):
        return f"it is a {type(found).__name__}, expected a function"
    if kind == "edits":
        return _of_signature(found, _FUNCTIONS[kind])
    try:
        model = options_model(found)
    except ContractError as error:
        return str(error)
    lacking = [key for key in INPUT if key not in model.model_fields]
    if kind == "networks" and lacking:
        return f"its options have no {' and no '.join(lacking)}, which the data set tells it"
    return None


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
    return _of_methods(found)


def _of_methods(found: type) -> str | None:
    """Say which method takes other arguments than that of the platform's base."""
    for base in found.__mro__:
        if not base.__module__.startswith("nasplatform."):
            continue
        for name, method in vars(base).items():
            own = getattr(found, name)
            if not inspect.isfunction(method) or name == "__init__":
                continue
            if not callable(own) and not name.startswith("__"):
                return f"its {name} is a {type(own).__name__}, expected a method"
            if inspect.isfunction(own):
                kinds = inspect.signature(method).parameters.values()
                wanted = tuple(p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD)
                if (lacks := _of_signature(own, wanted)) is not None:
                    return lacks
    return None


def _of_signature(function: Callable[..., Any], wanted: tuple[str, ...]) -> str | None:
    """Say where a function does not take as many arguments as it will be given."""
    if _misfit(function, wanted, {}) is None:
        return None
    return f"{_signed(function)} is called as {_name(function)}({', '.join(wanted)})"


def _misfit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """Say where a function does not take the arguments, what it takes and what it is given."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        given = [*(type(each).__name__ for each in args), *(f"{key}=" for key in kwargs)]
        how = f"{_name(function)}({', '.join(given)})"
        return f"{_signed(function)} is called as {how}: {error}"
    except ValueError:  # it is written in C and shows no signature
        return None
    return None


def _signed(function: Callable[..., Any]) -> str:
    parameters = inspect.signature(function).parameters.values()
    return f"{_name(function)}({', '.join(str(each).partition(':')[0] for each in parameters)})"


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _promised(found: type) -> list[str]:
    """Return the class attributes that the bases of the platform annotate, with a value or not."""
    return [
        attribute
        for base in found.__mro__
        if base.__module__.startswith("nasplatform.")
        for attribute, kind in vars(base).get("__annotations__", {}).items()
        if str(kind).startswith("ClassVar")
    ]
