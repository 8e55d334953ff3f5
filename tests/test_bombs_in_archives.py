"""Archives, arrays and pictures that hold something else than they seem to."""

from __future__ import annotations

import io
import os
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
