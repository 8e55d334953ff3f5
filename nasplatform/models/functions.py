"""Networks of a user's own function or class, named as ``package.module:function``.

Whoever names it (``describe_function``) has the module imported as Python does, from the current
folder too. A file that came from elsewhere may name anything, so ``build_function`` imports
nothing: the module must have been imported by the program. Only what says that it makes a network
is called: a subclass of ``nn.Module``, or a function whose result is annotated so::

    def make(width: int = 16) -> nn.Module: ...
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from nasplatform.errors import NetworkError


def describe_function(path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to make a network again, as values that JSON can hold.

    path: ``package.module:function``; options: its keyword arguments.
    The module is imported. Raises NetworkError where there is no such function, or it does not take
    these options.
    """
    import_trusted(_module_of(path))
    function = _find(path)
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise NetworkError(f"{path}: {error}") from None
    try:
        return {"module": path, "options": json.loads(json.dumps(dict(options)))}
    except TypeError as error:
        raise NetworkError(f"{path}: options must be plain values: {error}") from None


def build_function(described: Mapping[str, Any]) -> nn.Module:
    """Make what ``describe_function`` described; raise NetworkError where that fails.

    Nothing is imported, for the description may have come from elsewhere.
    """
    path = str(described["module"])
    try:
        module = _find(path)(**described["options"])
    except NetworkError:
        raise
    except Exception as error:  # whatever the user's function raises
        words = " ".join(str(error).split())[:200]
        raise NetworkError(f"{path} raises {type(error).__name__}: {words}") from None
    if not isinstance(module, nn.Module):
        raise NetworkError(f"{path} returns a {type(module).__name__}, expected an nn.Module")
    return module


def _find(path: str) -> Callable[..., nn.Module]:
    module_name, name = _module_of(path), path.partition(":")[2]
    if module_name not in sys.modules:
        raise NetworkError(
            f"it is made by {path}, and loading imports nothing: if you trust that code, import "
            f"{module_name} first (--module {module_name})"
        )
    try:
        function = getattr(sys.modules[module_name], name)
    except AttributeError:
        raise NetworkError(f"{path}: module {module_name!r} has no {name!r}") from None
    if not _makes_networks(function):
        raise NetworkError(
            f"{path} does not say that it makes a network: annotate it '-> nn.Module'"
        )
    found: Callable[..., nn.Module] = function
    return found


def _module_of(path: str) -> str:
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise NetworkError(f"{path!r} names no function, expected 'package.module:function'")
    return module_name


def import_trusted(name: str) -> None:
    """Import a module that the user names, from the current folder too; NetworkError if it fails.

    What it defines may make networks from then on.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        import_module(name)
    except Exception as error:  # whatever the user's module raises
        words = " ".join(str(error).split())[:200]
        raise NetworkError(f"module {name!r} cannot be imported: {words}") from None
    finally:
        sys.path.remove(here)


def _makes_networks(function: Any) -> bool:
    if isinstance(function, type):
        return issubclass(function, nn.Module)
    try:
        made = get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(made, type) and issubclass(made, nn.Module)
