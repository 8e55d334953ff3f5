"""All cells by the md5 that names them in the benchmark; kept on disk once it was computed."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from nasplatform.atomic_io import cache_folder, replace_file
from nasplatform.errors import ArchitectureError
from nasplatform.prepared import Prepared
from nasplatform.spaces.nasbench101.cells import Cell
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

MD5 = re.compile(r"[0-9a-f]{32}")
_ENTRY = np.dtype([("md5", "S16"), ("code", "<u8")])
_FILE = "nasbench101-md5.npy"


def find_cell(md5: str) -> Cell:
    """Return the cell of an md5; raise ArchitectureError where none has it.

    NotReadyError where nobody waits and the md5s are not known yet.
    """
    plain = md5.strip().lower()
    if not MD5.fullmatch(plain):
        raise ArchitectureError(f"{md5[:60]!r} is no md5: expected 32 hexadecimal digits")
    index = INDEX.get()
    wanted = np.array(bytes.fromhex(plain), "S16")  # ends of zeros are as one to numpy
    place = int(np.searchsorted(index["md5"], wanted))
    if place == len(index) or index["md5"][place] != wanted:
        raise ArchitectureError(f"md5 {plain} is of no cell of NAS-Bench-101")
    return Cell(int(index["code"][place]))


def _index() -> NDArray[np.void]:
    """Return the md5 and code of every unique cell, in the order of the md5."""
    file = cache_folder() / _FILE
    cells = enumerate_cells()
    if file.is_file():
        try:
            known: NDArray[np.void] = np.load(file)
        except (OSError, ValueError, EOFError):
            known = np.empty(0, _ENTRY)
        if known.dtype == _ENTRY and _same(known["code"], cells.codes[:, 0]):
            return known
    made = np.empty(len(cells), _ENTRY)
    made["md5"] = [bytes.fromhex(text) for text in cells.hashes]
    made["code"] = cells.codes[:, 0]
    made = np.sort(made, order="md5")
    with suppress(OSError), replace_file(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, made)  # for the next process, where the disk takes it
    return made


def _same(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> bool:
    return np.array_equal(np.sort(left), np.sort(right))


INDEX = Prepared("the table of all md5s of NAS-Bench-101", _index)
