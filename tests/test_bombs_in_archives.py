"""Archives, arrays and pictures that hold something else than they seem to."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

from nasplatform.benchmarks.imports.transformers import _plain
from nasplatform.errors import DataError
from nasplatform.fetch import unpack
from nasplatform.training.cifar import read_cifar
from nasplatform.training.decoding import read_image
from nasplatform.training.npz import NpzOptions, npz, read_npz

pytestmark = pytest.mark.usefixtures("moderate")


class Zeros(io.RawIOBase):
    """A file of zeros that takes no memory."""

    def read(self, size=-1):
        return bytes(size)


KINDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@pytest.mark.parametrize("reader", [lambda path: unpack(path, path.with_name("out")), read_cifar])
@pytest.mark.parametrize("kind", KINDS)
def test_a_header_of_gigabytes_in_a_small_tar(tmp_path, kind, reader):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, 700 << 20
        tar.fileobj.write(member.tobuf())
    with pytest.raises(DataError, match="header"):
        reader(path)


def test_a_name_of_half_a_million_parts(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a/" * 500_000 + "b"))
    with pytest.raises(DataError, match="4,096 characters"):
        unpack(path, tmp_path / "out")


def test_headers_of_a_tar_count_as_what_it_holds(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo("x")
        member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 20
        for _ in range(70):
            name = b"a".ljust(1 << 20, b"\0")
            tar.fileobj.write(member.tobuf() + name + tarfile.TarInfo("b").tobuf())
    with pytest.raises(DataError, match="20 times"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize(("count", "size"), [(1001, 0), (2, 200 << 20)])
def test_an_archive_of_more_than_cifar_has(tmp_path, count, size):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for number in range(count):
            member = tarfile.TarInfo(f"data_batch_{number % 5 + 1}.bin")
            member.size = size
            tar.addfile(member, Zeros())
    with pytest.raises(DataError, match=r"1,000 files|expected at most"):
        read_cifar(path)


def test_mosaics_of_more_images_than_cifar_has(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.csv", "mosaic,pos,label\n" + "a,0,0\n" * 3_000_000)
    with pytest.raises(DataError, match="more than 100,000 images"):
        read_cifar(path)


@pytest.mark.parametrize(
    "reader", [read_npz, read_cifar, lambda path: list(_plain(path))], ids=["npz", "cifar", "torch"]
)
def test_a_zip_of_very_many_files(tmp_path, reader):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"")
    data = path.read_bytes()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry, count = data[at:end], 60_000
    tail = struct.pack("<4H2LH", 0, 0, count, count, len(entry) * count, at, 0)
    path.write_bytes(data[:at] + entry * count + b"PK\5\6" + tail)
    with pytest.raises(DataError, match="list of files"):
        reader(path)


@pytest.mark.parametrize("mode", ["w:xz", "w:bz2"])
def test_a_file_of_gigabytes_in_a_small_tar(tmp_path, mode):
    path = tmp_path / "x.tar"
    with tarfile.open(path, mode, **({"preset": 0} if mode == "w:xz" else {})) as tar:
        member = tarfile.TarInfo("zeros")
        member.size = 90 << 20
        tar.addfile(member, Zeros())
    with pytest.raises(DataError, match="20 times"):
        unpack(path, tmp_path / "out")


def test_a_sparse_file_of_a_terabyte(tmp_path):
    path, size = tmp_path / "x.tar", 1 << 40
    member = tarfile.TarInfo("hole")
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": f"{size - 1},1",
        "GNU.sparse.size": str(size),
    }
    member.size = 1
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="20 times"):
        unpack(path, tmp_path / "out")


def test_records_of_gigabytes_in_a_small_file_of_torch(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x/data.pkl", bytes(100 << 20))
    with pytest.raises(DataError, match="bytes"):
        list(_plain(path))


def test_a_pipe_in_place_of_a_file_of_torch(tmp_path):
    os.mkfifo(tmp_path / "x.pth")
    with pytest.raises(DataError, match="no regular file"):
        list(_plain(tmp_path / "x.pth"))


def header(shape, descr="|u1"):
    file = io.BytesIO()
    facts = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue()


ARRAYS = {
    "x_train.npy": [
        header((1 << 44,)),
        header((1 << 30, 1 << 30, 1 << 30)),
        header((-1, 4, 4)),
        header((2, 4, 4)) + bytes(3),
        header((2, 4, 4), "|V9999"),
        header((2, 4, 4), "<M8[s]") + bytes(256),
        header((2, 4, 4), "|O") + bytes(256),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"",
    ],
    "x_train": [b"PK\x03\x04", b"", b"text"],
    "x_train.npz": [b"PK\x05\x06" + bytes(18)],
}


@pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name, some in ARRAYS.items() for data in some]
)
def test_arrays_that_are_none(tmp_path, name, data):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
        labels = io.BytesIO()
        np.save(labels, np.array([0, 1]))
        archive.writestr("y_train.npy", labels.getvalue())
    with pytest.raises(DataError, match=r"x\.npz"):
        npz(NpzOptions(path=path))


def test_an_archive_that_ends_within_an_array(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(
        path, x=np.random.default_rng(0).integers(0, 255, (9, 8, 8)), y=np.arange(9)
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"x.npy") + 5
    data[at + 30 : at + 200] = zlib.compress(b"")[2:4] * 85
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        read_npz(path)


def picture(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


@pytest.mark.parametrize("side", [20_000, 100_000, (1 << 31) - 1])
def test_a_small_picture_of_many_pixels(tmp_path, side):
    size = side.to_bytes(4, "big")
    head = picture(b"IHDR", size + size + b"\x08\x02\0\0\0")
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + picture(b"IDAT", zlib.compress(bytes(99))))
    with pytest.raises(DataError, match=r"x\.png"):
        read_image(path, (4, 4), grey=True)


def test_a_program_in_place_of_a_picture(tmp_path):
    """Pillow would give Encapsulated PostScript to Ghostscript, a program of its own."""
    path = tmp_path / "x.png"
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"
    path.write_bytes(head + b"%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(path, (4, 4), grey=True)
