"""The measurements inside a NAS-Bench-101 record: a small protocol buffer, decoded by hand.

``ModelMetrics`` of google-research/nasbench (``nasbench/lib/model_metrics.proto``)::

    ModelMetrics    evaluation_data = 1 (repeated EvaluationData), trainable_parameters = 2 (int32),
                    total_time = 3 (double)
    EvaluationData  current_epoch = 1, training_time = 2, train_accuracy = 3,
                    validation_accuracy = 4, test_accuracy = 5 (doubles), checkpoint_path = 6
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE = Struct("<d")
# An evaluation of the five doubles and nothing else, which is how the official file has them.
_PLAIN = Struct("<BdBdBdBdBd")
_PLAIN_TAGS = tuple(number << 3 | _FIXED64 for number in (1, 2, 3, 4, 5))
_NAN = float("nan")


class EvaluationData(NamedTuple):
    """One evaluation of a training; accuracies in [0, 1], time in seconds, NaN where absent."""

    current_epoch: float = _NAN
    training_time: float = _NAN
    train_accuracy: float = _NAN
    validation_accuracy: float = _NAN
    test_accuracy: float = _NAN


class ModelMetrics(NamedTuple):
    """The evaluations of one training (its start, its half, its end) and the parameter count."""

    evaluations: list[EvaluationData]
    trainable_parameters: int | None


def parse_model_metrics(data: bytes) -> ModelMetrics:
    """Decode a ``ModelMetrics`` message; raise ValueError where it is not a well-formed one."""
    evaluations, parameters = [], None
    for number, value in _fields(data):
        if number == 1:
            if not isinstance(value, bytes):
                raise ValueError("field 1 is no message")
            evaluations.append(_evaluation(value))
        elif number == 2:
            if not isinstance(value, int):
                raise ValueError("field 2 is no whole number")
            parameters = value
    return ModelMetrics(evaluations, parameters)


def _evaluation(data: bytes) -> EvaluationData:
    if len(data) == _PLAIN.size:
        plain = _PLAIN.unpack(data)
        if plain[::2] == _PLAIN_TAGS:
            return EvaluationData(*plain[1::2])
    values: dict[int, float] = {}
    for number, value in _fields(data):
        if 1 <= number <= 5:
            if not isinstance(value, float):
                raise ValueError(f"field {number} of an evaluation is no double")
            values[number] = value
    return EvaluationData(*(values.get(number, _NAN) for number in range(1, 6)))


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes | None]]:
    """Yield (field number, value): a double for 64 bits, None for the 32 bits nobody uses."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        end = at + size
        if end > len(data):
            raise ValueError(f"field {number} runs past the end of the message")
        if wire == _FIXED64:
            yield number, float(_DOUBLE.unpack_from(data, at)[0])
        else:
            yield number, data[at:end] if wire == _BYTES else None
        at = end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a base-128 number and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("the message ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number of more than ten bytes before byte {at}")
