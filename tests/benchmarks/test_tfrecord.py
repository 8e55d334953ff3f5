"""The TFRecord framing: what is written is read back, whatever is damaged is refused."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasplatform.benchmarks import tfrecord
from nasplatform.benchmarks.tfrecord import (
    is_tfrecord,
    masked_checksum,
    read_records,
    write_records,
)
from nasplatform.errors import DataError

PAYLOADS = st.lists(st.binary(max_size=60), max_size=6)
each_in_a_new_file = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def slow_checksum(data: bytes) -> int:
    """Return the masked CRC-32C, bit by bit from its definition (RFC 3720, reflected)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


@given(st.binary(max_size=40))
def test_checksum_is_the_definition(data: bytes) -> None:
    assert masked_checksum(data) == slow_checksum(data)


def test_known_record(tmp_path: Path) -> None:
    """The record that TensorFlow's documentation would write for ``b"foo"``, spelled out."""
    length = struct.pack("<Q", 3)
    spelled = length + struct.pack("<I", slow_checksum(length)) + b"foo"
    spelled += struct.pack("<I", slow_checksum(b"foo"))
    write_records(tmp_path / "foo", [b"foo"])
    assert (tmp_path / "foo").read_bytes() == spelled


@given(PAYLOADS)
@each_in_a_new_file
def test_round_trip(tmp_path: Path, payloads: list[bytes]) -> None:
    path = tmp_path / "file"
    write_records(path, payloads)
    assert list(read_records(path)) == payloads
    assert is_tfrecord(path) == bool(payloads)


def test_records_longer_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [bytes([n]) * n * 37 for n in range(50)]
    write_records(tmp_path / "file", payloads)
    for block in (1, 7, 100, 10_000):
        monkeypatch.setattr(tfrecord, "_BLOCK", block)
        assert list(read_records(tmp_path / "file")) == payloads


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.data())
@each_in_a_new_file
def test_any_flipped_bit_is_refused(
    tmp_path: Path, payloads: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path / "file"
    write_records(path, payloads)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"file(:| ends in the middle of) record \d"):
        list(read_records(path))


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.data())
@each_in_a_new_file
def test_any_cut_is_refused_or_between_records(
    tmp_path: Path, payloads: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path / "file"
    write_records(path, payloads)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:cut])
    ends = [sum(len(p) + tfrecord.FRAME for p in payloads[:n]) for n in range(len(payloads) + 1)]
    if cut in ends:
        assert list(read_records(path)) == payloads[: ends.index(cut)]
        return
    number = sum(end <= cut for end in ends)
    with pytest.raises(DataError, match=f"ends in the middle of record {number}"):
        list(read_records(path))


def test_wrong_checksum_of_a_payload_names_its_record(tmp_path: Path) -> None:
    write_records(tmp_path / "file", [b"one", b"two"])
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="record 2 is damaged"):
        list(read_records(tmp_path / "file"))


@given(st.binary(max_size=200))
@each_in_a_new_file
def test_noise_is_no_tfrecord(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(noise)
    if not is_tfrecord(path) and noise:
        with pytest.raises(DataError):
            list(read_records(path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(read_records(tmp_path / "missing"))
    with pytest.raises(DataError, match="cannot be read"):
        is_tfrecord(tmp_path / "missing")
