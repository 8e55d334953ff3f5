"""Data out of pickle files without unpickling them.

A pickle is a program. This machine runs the part of its language that makes plain data
(containers, numbers, texts, and numpy's scalars and arrays of numbers) and refuses the rest: it
imports nothing and calls nothing that a file names. The few global names that plain data needs
stand in a table of our own functions; every other name is an error that says which.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import DataError

_NUMBERS = re.compile(r"[biufc]\d{1,2}")
_MARK = object()
_KEY_DEPTH, _KEY_PARTS = 2, 8
_OBJECTS = 500_000  # instructions, and items that a call goes through; each may take 200 bytes
_COPIED = 1 << 26  # bytes that calls are given in all
_ODD_KEYS = 10_000  # keys whose hashes a file can make collide
_EVEN = (1 << 61) - 1  # whole numbers below have hashes of their own


class _RefusedError(Exception):
    """A construct that plain data does not need, or a program that makes no sense."""


@dataclass
class _DType:
    """What stands for numpy's dtype until its byte order is known."""

    name: str
    order: str = "="

    def resolve(self) -> np.dtype[Any]:
        # only byte orders come through ``_checked_order``
        order: Any = self.order
        return np.dtype(self.name).newbyteorder(order)


@dataclass
class _Array:
    """What stands for a numpy array until its state is known."""

    values: NDArray[Any] | None = None


@dataclass(frozen=True)
class _Arguments:
    """A tuple that has something which is no data among its values."""

    values: tuple[Any, ...]


def loads(data: bytes, where: str) -> Any:
    """Return the plain data of a pickle of protocol 2 to 5; a bytearray comes as bytes.

    Raises DataError, in one line that begins with ``where``, for a truncated or damaged pickle
    and for one that needs more than plain data.
    """
    machine = _Machine()
    try:
        for opcode, argument, position in _opcodes(data):
            machine.step(opcode, argument, position)
        return machine.result()
    except _RefusedError as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:  # whatever a program that makes no sense leads to
        words = " ".join(str(error).split())[:120]
        raise DataError(f"{where}: not a whole pickle of plain data ({words})") from None


def _opcodes(data: bytes) -> Iterator[tuple[str, Any, int]]:
    for opcode, argument, position in pickletools.genops(io.BytesIO(data)):
        yield opcode.name, argument, position or 0


class _Machine:
    """The stack, the marks and the memo of a pickle program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.stopped = False
        self._objects, self._copied, self._odd = _OBJECTS, _COPIED, _ODD_KEYS

    def step(self, opcode: str, argument: Any, position: int) -> None:
        """Run one instruction."""
        self._spend(1)
        if opcode in _CONSTANTS:
            self.stack.append(argument)
            return
        try:
            action = _ACTIONS[opcode]
        except KeyError:
            raise _RefusedError(
                f"pickle instruction {opcode} at byte {position} makes more than plain data"
            ) from None
        action(self, argument)

    def result(self) -> Any:
        """Return what the program left."""
        if not self.stopped or len(self.stack) != 1:
            raise _RefusedError("the pickle ends before its data is whole")
        return _finished(self.stack[0])

    def _spend(self, objects: int, copied: int = 0) -> None:
        """Count what a program makes: a byte of it can be an object, a call a copy."""
        self._objects -= objects
        self._copied -= copied
        if self._objects < 0 or self._copied < 0:
            raise _RefusedError(
                f"the pickle makes more than {_OBJECTS:,} objects or {_COPIED >> 20} MiB: that is "
                f"no record of a benchmark"
            )

    def given(self, arguments: tuple[Any, ...]) -> None:
        """Count what a call is about to go through or copy."""
        for each in arguments:
            if isinstance(each, str | bytes):
                self._spend(0, len(each))
            elif isinstance(each, list | tuple | dict | set | frozenset):
                self._spend(len(each))

    def keys(self, values: Iterable[Any]) -> list[Any]:
        """Return values that may be hashed; not too many of those that may collide."""
        found = [_key(value) for value in values]
        self._odd -= sum(not _is_even(value) for value in found)
        if self._odd < 0:
            raise _RefusedError(
                f"the pickle has more than {_ODD_KEYS:,} keys that are neither texts nor numbers "
                f"of 60 bits"
            )
        return found

    def pop(self) -> Any:
        """Take the uppermost value off the stack."""
        value = self.stack.pop()
        if value is _MARK:
            raise _RefusedError("the pickle uses a mark as a value")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Take everything above the uppermost mark, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:  # raises IndexError where there is none
            place -= 1
            if place < 0:
                raise _RefusedError("the pickle closes a group that it did not open")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def top(self, kind: type) -> Any:
        """Return the uppermost value, which must be of a kind."""
        if not isinstance(self.stack[-1], kind):
            raise _RefusedError(
                f"the pickle fills a {type(self.stack[-1]).__name__} as a {kind.__name__}"
            )
        return self.stack[-1]

    def remember(self, place: int) -> None:
        """Put the uppermost value into the memo."""
        value = self.stack[-1]
        if value is _MARK:
            raise _RefusedError("the pickle remembers a mark")
        self.memo[place] = value


def _extend(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(map(_finished, values))


def _add(machine: _Machine, values: list[Any]) -> None:
    machine.top(set).update(machine.keys(values))


def _set_items(machine: _Machine, values: list[Any]) -> None:
    if len(values) % 2:
        raise _RefusedError("the pickle has a key without a value")
    pairs = zip(machine.keys(values[::2]), map(_finished, values[1::2]), strict=True)
    machine.top(dict).update(pairs)


def _tuple(machine: _Machine, length: int) -> None:
    values = [machine.pop() for _ in range(length)][::-1]
    machine.stack.append(_grouped(values))


def _grouped(values: list[Any]) -> tuple[Any, ...] | _Arguments:
    """Make a tuple of data, or arguments where a value may stand only while the program runs."""
    ready = [value.values if _is_whole(value) else value for value in values]
    group = tuple(ready)
    return _Arguments(group) if any(isinstance(value, _PASSING) for value in ready) else group


def _is_whole(value: Any) -> bool:
    return isinstance(value, _Array) and value.values is not None


def _global(machine: _Machine, module: Any, name: Any) -> None:
    if (module, name) not in _GLOBALS:
        raise _RefusedError(
            f"the pickle asks for {str(module)[:60]}.{str(name)[:60]}, which is no plain data; "
            f"nothing was run"
        )
    machine.stack.append(_GLOBALS[module, name])


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(module, str) and isinstance(name, str)):
        raise _RefusedError("the pickle names a global by something else than two texts")
    _global(machine, module, name)


def _reduce(machine: _Machine) -> None:
    arguments, function = _parts(machine.pop()), machine.pop()
    if not isinstance(function, _Function):
        raise _RefusedError("the pickle calls something that is no function of plain data")
    machine.given(arguments)
    machine.stack.append(function.call(machine, *arguments))


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, _Arguments):
        return value.values
    if not isinstance(value, tuple):
        raise _RefusedError(f"the pickle calls something with a {type(value).__name__}")
    return value


def _build(machine: _Machine) -> None:
    state, value = _parts(machine.pop()), machine.stack[-1]
    if isinstance(value, _DType):
        value.order = _checked_order(state[1])
    elif isinstance(value, _Array):
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
            raise _RefusedError("the pickle holds an array of something else than numbers")
        values = np.frombuffer(raw, dtype.resolve())
        value.values = values.reshape(shape, order="F" if fortran else "C")
    else:
        raise _RefusedError(f"the pickle sets the state of a {type(value).__name__}")


def _checked_order(order: Any) -> str:
    if order not in ("<", ">", "=", "|"):
        raise _RefusedError(f"the pickle has numbers of byte order {order!r:.20}")
    return str(order)


def _finished(value: Any) -> Any:
    """Return a value as plain data; raise for what stands only while the program runs."""
    if isinstance(value, _Array):
        if value.values is None:
            raise _RefusedError("the pickle has an array without values")
        return value.values
    if value is _MARK or isinstance(value, _PASSING):
        raise _RefusedError("the pickle keeps a mark, a function or a dtype as data")
    return value


def _is_even(value: Any) -> bool:
    """Whether the hash of a key is seeded, or its own."""
    return isinstance(value, str | bytes) or (type(value) is int and abs(value) < _EVEN)


def _key(value: Any, depth: int = 0) -> Any:
    """Return a value that may be hashed: a deep nest of tuples would exhaust the C stack."""
    if isinstance(value, tuple):
        if depth == _KEY_DEPTH or len(value) > _KEY_PARTS:
            raise _RefusedError("the pickle has a key of too many nested tuples")
        return tuple(_key(part, depth + 1) for part in value)
    if value is not None and not isinstance(value, str | bytes | int | float):
        raise _RefusedError(f"the pickle has a {type(value).__name__} as a key")
    return value


@dataclass(frozen=True)
class _Function:
    """One of our own functions, under the name by which pickles ask for it."""

    call: Callable[..., Any]


def _ordered_dict(machine: _Machine, pairs: Any = ()) -> dict[Any, Any]:
    found = [(key, _finished(value)) for key, value in pairs]
    keys = machine.keys(key for key, _ in found)
    return dict(zip(keys, (value for _, value in found), strict=True))


def _dtype(machine: _Machine, name: Any, align: Any = False, copy: Any = False) -> _DType:
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise _RefusedError(
            f"the pickle has an array or scalar of type {name!r:.40}, not of numbers"
        )
    np.dtype(name)  # raises TypeError for a width that does not exist
    return _DType(name)


def _scalar(machine: _Machine, dtype: Any, raw: Any) -> bool | int | float | complex:
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
        raise _RefusedError("the pickle holds a scalar of something else than numbers")
    values = np.frombuffer(raw, dtype.resolve())
    if len(values) != 1:
        raise _RefusedError(f"the pickle holds a scalar of {len(raw)} bytes")
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
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
        raise _RefusedError("the pickle holds an array of something else than numbers")
    return np.frombuffer(bytes(raw), dtype.resolve()).reshape(shape, order=order)


def _encode(machine: _Machine, text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("the pickle encodes something else than bytes written as latin1")
    return text.encode("latin1")


def _reconstruct(machine: _Machine, kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _NDARRAY:
        raise _RefusedError("the pickle makes an array of another class than numpy's")
    return _Array()


def _no_call(machine: _Machine, *arguments: Any) -> Any:
    raise _RefusedError("the pickle calls numpy.ndarray")


_PASSING = (_Function, _DType, _Array, _Arguments)
_NDARRAY = _Function(_no_call)
_GLOBALS: dict[tuple[Any, Any], _Function] = {
    ("collections", "OrderedDict"): _Function(_ordered_dict),
    ("numpy", "dtype"): _Function(_dtype),
    ("numpy", "ndarray"): _NDARRAY,
    ("_codecs", "encode"): _Function(_encode),
}
for _module in ("__builtin__", "builtins"):
    for _name, _maker in (
        ("bytes", _bytes),
        ("set", _set),
        ("frozenset", _frozenset),
        ("complex", _complex),
    ):
        _GLOBALS[_module, _name] = _Function(_maker)
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _GLOBALS[_module, "_frombuffer"] = _Function(_frombuffer)
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _GLOBALS[_module, "scalar"] = _Function(_scalar)
    _GLOBALS[_module, "_reconstruct"] = _Function(_reconstruct)

_CONSTANTS = frozenset(
    {
        "BININT",
        "BININT1",
        "BININT2",
        "INT",
        "LONG",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "FLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "UNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    }
)
_Action = Callable[[_Machine, Any], Any]
_ACTIONS: dict[str, _Action] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "STOP": lambda m, a: setattr(m, "stopped", True),
    "BYTEARRAY8": lambda m, a: m.stack.append(bytes(a)),
    "NONE": lambda m, a: m.stack.append(None),
    "NEWTRUE": lambda m, a: m.stack.append(True),
    "NEWFALSE": lambda m, a: m.stack.append(False),
    "EMPTY_DICT": lambda m, a: m.stack.append({}),
    "EMPTY_LIST": lambda m, a: m.stack.append([]),
    "EMPTY_SET": lambda m, a: m.stack.append(set()),
    "EMPTY_TUPLE": lambda m, a: m.stack.append(()),
    "MARK": lambda m, a: m.stack.append(_MARK),
    "POP": lambda m, a: m.stack.pop(),
    "POP_MARK": lambda m, a: m.pop_to_mark(),
    "TUPLE": lambda m, a: m.stack.append(_grouped(m.pop_to_mark())),
    "TUPLE1": lambda m, a: _tuple(m, 1),
    "TUPLE2": lambda m, a: _tuple(m, 2),
    "TUPLE3": lambda m, a: _tuple(m, 3),
    "LIST": lambda m, a: m.stack.append(list(map(_finished, m.pop_to_mark()))),
    "FROZENSET": lambda m, a: m.stack.append(frozenset(m.keys(m.pop_to_mark()))),
    "APPEND": lambda m, a: _extend(m, [m.pop()]),
    "APPENDS": lambda m, a: _extend(m, m.pop_to_mark()),
    "ADDITEMS": lambda m, a: _add(m, m.pop_to_mark()),
    "SETITEM": lambda m, a: _set_items(m, [m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, a: _set_items(m, m.pop_to_mark()),
    "MEMOIZE": lambda m, a: m.remember(len(m.memo)),
    "PUT": lambda m, a: m.remember(a),
    "BINPUT": lambda m, a: m.remember(a),
    "LONG_BINPUT": lambda m, a: m.remember(a),
    "GET": lambda m, a: m.stack.append(m.memo[a]),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "GLOBAL": lambda m, a: _global(m, *a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, a: _stack_global(m),
    "REDUCE": lambda m, a: _reduce(m),
    "BUILD": lambda m, a: _build(m),
}
