"""What the program of a pickle may name: our own functions, in place of those of the file.

They make containers, texts and numpy's scalars and arrays of numbers, which is what plain data
needs. Every function takes the machine that runs the program, which counts keys that may collide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MARK = object()
_NUMBERS = re.compile(r"[biufc]\d{1,2}")


class _Machine(Protocol):
    def keys(self, values: Iterable[Any]) -> list[Any]:
        """Return values that may be hashed."""


class RefusedError(Exception):
    """A construct that plain data does not need, or a program that makes no sense."""


@dataclass
class DType:
    """What stands for numpy's dtype until its byte order is known."""

    name: str
    order: str = "="

    def resolve(self) -> np.dtype[Any]:
        """Return numpy's dtype."""
        # only byte orders come through ``checked_order``
        order: Any = self.order
        return np.dtype(self.name).newbyteorder(order)


@dataclass
class Array:
    """What stands for a numpy array until its state is known."""

    values: NDArray[Any] | None = None


@dataclass(frozen=True)
class Arguments:
    """A tuple that has something which is no data among its values."""

    values: tuple[Any, ...]


def checked_order(order: Any) -> str:
    """Return a byte order that numpy knows."""
    if order not in ("<", ">", "=", "|"):
        raise RefusedError(f"the pickle has numbers of byte order {order!r:.20}")
    return str(order)


def finished(value: Any) -> Any:
    """Return a value as plain data; raise for what stands only while the program runs."""
    if isinstance(value, Array):
        if value.values is None:
            raise RefusedError("the pickle has an array without values")
        return value.values
    if value is MARK or isinstance(value, PASSING):
        raise RefusedError("the pickle keeps a mark, a function or a dtype as data")
    return value


@dataclass(frozen=True)
class Function:
    """One of our own functions, under the name by which pickles ask for it."""

    call: Callable[..., Any]


def _ordered_dict(machine: _Machine, pairs: Any = ()) -> dict[Any, Any]:
    found = [(key, finished(value)) for key, value in pairs]
    keys = machine.keys(key for key, _ in found)
    return dict(zip(keys, (value for _, value in found), strict=True))


def _dtype(machine: _Machine, name: Any, align: Any = False, copy: Any = False) -> DType:
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise RefusedError(
            f"the pickle has an array or scalar of type {name!r:.40}, not of numbers"
        )
    np.dtype(name)  # raises TypeError for a width that does not exist
    return DType(name)


def _scalar(machine: _Machine, dtype: Any, raw: Any) -> bool | int | float | complex:
    if not isinstance(dtype, DType) or not isinstance(raw, bytes):
        raise RefusedError("the pickle holds a scalar of something else than numbers")
    values = np.frombuffer(raw, dtype.resolve())
    if len(values) != 1:
        raise RefusedError(f"the pickle holds a scalar of {len(raw)} bytes")
    number: bool | int | float | complex = values[0].item()
    return number


def _bytes(machine: _Machine) -> bytes:
    return b""


def _set(machine: _Machine, values: Any = ()) -> set[Any]:
    return set(machine.keys(values))


def _frozenset(machine: _Machine, values: Any = ()) -> frozenset[Any]:
    return frozenset(machine.keys(values))


def _complex(machine: _Machine, real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _frombuffer(machine: _Machine, raw: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(dtype, DType) or not isinstance(raw, bytes | bytearray):
        raise RefusedError("the pickle holds an array of something else than numbers")
    return np.frombuffer(bytes(raw), dtype.resolve()).reshape(shape, order=order)


def _encode(machine: _Machine, text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("the pickle encodes something else than bytes written as latin1")
    return text.encode("latin1")


def _reconstruct(machine: _Machine, kind: Any, shape: Any, code: Any) -> Array:
    if kind is not _NDARRAY:
        raise RefusedError("the pickle makes an array of another class than numpy's")
    return Array()


def _no_call(machine: _Machine, *arguments: Any) -> Any:
    raise RefusedError("the pickle calls numpy.ndarray")


PASSING = (Function, DType, Array, Arguments)
_NDARRAY = Function(_no_call)
GLOBALS: dict[tuple[Any, Any], Function] = {
    ("collections", "OrderedDict"): Function(_ordered_dict),
    ("numpy", "dtype"): Function(_dtype),
    ("numpy", "ndarray"): _NDARRAY,
    ("_codecs", "encode"): Function(_encode),
}
for _module in ("__builtin__", "builtins"):
    for _name, _maker in (
        ("bytes", _bytes),
        ("set", _set),
        ("frozenset", _frozenset),
        ("complex", _complex),
    ):
        GLOBALS[_module, _name] = Function(_maker)
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    GLOBALS[_module, "_frombuffer"] = Function(_frombuffer)
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    GLOBALS[_module, "scalar"] = Function(_scalar)
    GLOBALS[_module, "_reconstruct"] = Function(_reconstruct)
