"""TFRecord files without TensorFlow: a framing of byte strings with a checksum around each.

A record is its length (uint64, little endian), the masked CRC-32C of those eight bytes, the
payload, and the masked CRC-32C of the payload. The mask rotates a checksum by 15 bits and adds a
constant, so that a checksum of data that holds checksums is no weaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct

import google_crc32c

from nasplatform.atomic_io import replace_file
from nasplatform.errors import DataError

_HEAD = Struct("<QI")  # length, checksum of the length
_FOOT = Struct("<I")  # checksum of the payload
_LENGTH = Struct("<Q")
FRAME = _HEAD.size + _FOOT.size
"""Bytes of a record beside its payload."""
_BLOCK = 1 << 22
_MASK_DELTA = 0xA282EAD8


def masked_checksum(data: bytes) -> int:
    """Return the masked CRC-32C of some bytes, as it stands in the file."""
    plain: int = google_crc32c.value(data)
    return ((plain >> 15 | plain << 17) + _MASK_DELTA) & 0xFFFFFFFF


def is_tfrecord(path: Path) -> bool:
    """Tell whether a file begins with the head of a record; raise DataError if unreadable."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return len(head) == _HEAD.size and _checked_length(head, 0) is not None


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a file, in order; memory stays bounded by one block and one record.

    Raises DataError, naming the file and the number of the record (from 1), where the file ends
    in the middle of a record or a checksum does not agree.
    """
    try:
        with path.open("rb") as file:
            yield from _frames(iter(lambda: file.read(_BLOCK), b""), path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def write_records(path: Path, payloads: Iterable[bytes]) -> None:
    """Write payloads as a TFRecord file, which appears whole or not at all."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        for payload in payloads:
            length = _LENGTH.pack(len(payload))
            file.write(length + _FOOT.pack(masked_checksum(length)) + payload)
            file.write(_FOOT.pack(masked_checksum(payload)))


def _frames(blocks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    data, start, number = b"", 0, 1
    while True:
        size = _checked_length(data, start) if len(data) - start >= _HEAD.size else 0
        if size is None:
            raise DataError(f"{path}: record {number} has a damaged length, its checksum differs")
        begin, end = start + _HEAD.size, start + FRAME + size
        if len(data) < end:
            more = next(blocks, b"")
            if not more and start == len(data):
                return
            if not more:
                raise DataError(f"{path} ends in the middle of record {number}")
            data, start = data[start:] + more, 0
            continue
        payload = data[begin : begin + size]
        if _FOOT.unpack_from(data, begin + size)[0] != masked_checksum(payload):
            raise DataError(f"{path}: record {number} is damaged, its checksum differs")
        yield payload
        start, number = end, number + 1


def _checked_length(data: bytes, start: int) -> int | None:
    """Return the length that the head at ``start`` tells, None where its checksum differs."""
    length, checksum = _HEAD.unpack_from(data, start)
    if masked_checksum(data[start : start + _LENGTH.size]) != checksum:
        return None
    return int(length)
