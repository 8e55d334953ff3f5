"""Data out of pickle files without unpickling them.

A pickle is a program. This machine runs the part of its language that makes plain data
(containers, numbers, texts, and numpy's scalars and arrays of numbers) and refuses the rest: it
imports nothing and calls nothing that a file names. The few global names that plain data needs
stand in a table of our own functions; every other name is an error that says which.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from nasplatform.benchmarks.imports.pickle_globals import (
    GLOBALS,
    MARK,
    PASSING,
    Arguments,
    Array,
    DType,
    Function,
    RefusedError,
    checked_order,
    finished,
)
from nasplatform.errors import DataError

_KEY_DEPTH, _KEY_PARTS = 2, 8
_OBJECTS = 500_000  # instructions, and items that a call goes through; each may take 200 bytes
_COPIED = 1 << 26  # bytes that calls are given in all
_ODD_KEYS = 10_000  # keys whose hashes a file can make collide
_EVEN = (1 << 61) - 1  # whole numbers below have hashes of their own


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
    except RefusedError as error:
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
            raise RefusedError(
                f"pickle instruction {opcode} at byte {position} makes more than plain data"
            ) from None
        action(self, argument)

    def result(self) -> Any:
        """Return what the program left."""
        if not self.stopped or len(self.stack) != 1:
            raise RefusedError("the pickle ends before its data is whole")
        return finished(self.stack[0])

    def _spend(self, objects: int, copied: int = 0) -> None:
        """Count what a program makes: a byte of it can be an object, a call a copy."""
        self._objects -= objects
        self._copied -= copied
        if self._objects < 0 or self._copied < 0:
            raise RefusedError(
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
            raise RefusedError(
                f"the pickle has more than {_ODD_KEYS:,} keys that are neither texts nor numbers "
                f"of 60 bits"
            )
        return found

    def pop(self) -> Any:
        """Take the uppermost value off the stack."""
        value = self.stack.pop()
        if value is MARK:
            raise RefusedError("the pickle uses a mark as a value")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Take everything above the uppermost mark, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not MARK:  # raises IndexError where there is none
            place -= 1
            if place < 0:
                raise RefusedError("the pickle closes a group that it did not open")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def top(self, kind: type) -> Any:
        """Return the uppermost value, which must be of a kind."""
        if not isinstance(self.stack[-1], kind):
            raise RefusedError(
                f"the pickle fills a {type(self.stack[-1]).__name__} as a {kind.__name__}"
            )
        return self.stack[-1]

    def remember(self, place: int) -> None:
        """Put the uppermost value into the memo."""
        value = self.stack[-1]
        if value is MARK:
            raise RefusedError("the pickle remembers a mark")
        self.memo[place] = value


def _extend(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(map(finished, values))


def _add(machine: _Machine, values: list[Any]) -> None:
    machine.top(set).update(machine.keys(values))


def _set_items(machine: _Machine, values: list[Any]) -> None:
    if len(values) % 2:
        raise RefusedError("the pickle has a key without a value")
    pairs = zip(machine.keys(values[::2]), map(finished, values[1::2]), strict=True)
    machine.top(dict).update(pairs)


def _tuple(machine: _Machine, length: int) -> None:
    values = [machine.pop() for _ in range(length)][::-1]
    machine.stack.append(_grouped(values))


def _grouped(values: list[Any]) -> tuple[Any, ...] | Arguments:
    """Make a tuple of data, or arguments where a value may stand only while the program runs."""
    ready = [value.values if _is_whole(value) else value for value in values]
    group = tuple(ready)
    return Arguments(group) if any(isinstance(value, PASSING) for value in ready) else group


def _is_whole(value: Any) -> bool:
    return isinstance(value, Array) and value.values is not None


def _global(machine: _Machine, module: Any, name: Any) -> None:
    if (module, name) not in GLOBALS:
        raise RefusedError(
            f"the pickle asks for {str(module)[:60]}.{str(name)[:60]}, which is no plain data; "
            f"nothing was run"
        )
    machine.stack.append(GLOBALS[module, name])


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(module, str) and isinstance(name, str)):
        raise RefusedError("the pickle names a global by something else than two texts")
    _global(machine, module, name)


def _reduce(machine: _Machine) -> None:
    arguments, function = _parts(machine.pop()), machine.pop()
    if not isinstance(function, Function):
        raise RefusedError("the pickle calls something that is no function of plain data")
    machine.given(arguments)
    machine.stack.append(function.call(machine, *arguments))


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Arguments):
        return value.values
    if not isinstance(value, tuple):
        raise RefusedError(f"the pickle calls something with a {type(value).__name__}")
    return value


def _build(machine: _Machine) -> None:
    state, value = _parts(machine.pop()), machine.stack[-1]
    if isinstance(value, DType):
        value.order = checked_order(state[1])
    elif isinstance(value, Array):
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, DType) or not isinstance(raw, bytes):
            raise RefusedError("the pickle holds an array of something else than numbers")
        values = np.frombuffer(raw, dtype.resolve())
        value.values = values.reshape(shape, order="F" if fortran else "C")
    else:
        raise RefusedError(f"the pickle sets the state of a {type(value).__name__}")


def _is_even(value: Any) -> bool:
    """Whether the hash of a key is seeded, or its own."""
    return isinstance(value, str | bytes) or (type(value) is int and abs(value) < _EVEN)


def _key(value: Any, depth: int = 0) -> Any:
    """Return a value that may be hashed: a deep nest of tuples would exhaust the C stack."""
    if isinstance(value, tuple):
        if depth == _KEY_DEPTH or len(value) > _KEY_PARTS:
            raise RefusedError("the pickle has a key of too many nested tuples")
        return tuple(_key(part, depth + 1) for part in value)
    if value is not None and not isinstance(value, str | bytes | int | float):
        raise RefusedError(f"the pickle has a {type(value).__name__} as a key")
    return value


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
    "MARK": lambda m, a: m.stack.append(MARK),
    "POP": lambda m, a: m.stack.pop(),
    "POP_MARK": lambda m, a: m.pop_to_mark(),
    "TUPLE": lambda m, a: m.stack.append(_grouped(m.pop_to_mark())),
    "TUPLE1": lambda m, a: _tuple(m, 1),
    "TUPLE2": lambda m, a: _tuple(m, 2),
    "TUPLE3": lambda m, a: _tuple(m, 3),
    "LIST": lambda m, a: m.stack.append(list(map(finished, m.pop_to_mark()))),
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
