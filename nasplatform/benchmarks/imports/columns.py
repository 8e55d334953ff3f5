"""Columns of a user's file: comma, semicolon or tab separated text, or parquet.

A cell of text keeps its place, so that whoever finds it wrong can name the line of the file.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplatform.benchmarks.imports.parquet import read_parquet
from nasplatform.errors import DataError, did_you_mean

_SEPARATORS = ",;\t"
_BLANK = frozenset({"", "na", "n/a", "nan", "none", "null", "-"})
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # what spreadsheets write before the text
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")
_OF_PANDAS = re.compile(r"__index_level_\d+__")  # how it keeps the labels of rows
_PLAIN = re.compile(r"[-+.\deE]+", re.ASCII)
_JSON = re.compile(r'\s*(\[\s*)?\{\s*"')
_WANTED = "expected csv, tsv or parquet"
_LARGEST_CELL = 1 << 20
_LARGEST = 1e38  # number, for tables are of single precision


@dataclass(frozen=True)
class Columns:
    """B rows of named cells.

    cells:  name -> B texts; blank cells are empty.
    lines:  where each row stands, counted from 1: its line, or the row of a parquet file.
    broken: line -> what is wrong with a row that has too few or too many cells.
    unit:   ``line`` or ``row``.
    """

    cells: Mapping[str, Sequence[str]]
    lines: Sequence[int]
    broken: Mapping[int, str]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, name: str) -> Sequence[str]:
        """Return the cells of a column; raise DataError for an unknown one."""
        if name not in self.cells:
            raise DataError(f"no column is called {name!r}{did_you_mean(name, self.cells)}")
        return self.cells[name]

    def numbers(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return (B,) numbers of a column, NaN where blank, and (B,) which cells are none."""
        cells = self[name]
        values = [_number(cell) for cell in cells]
        wrong = np.array([value is None for value in values], bool)
        return np.array([math.nan if v is None else v for v in values], np.float64), wrong


def read_columns(path: Path) -> Columns:
    """Read a file; raise DataError in one line for one that is missing, empty or no table."""
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        return _parquet(path)
    return parse_columns(decoded(data, str(path)), str(path))


def decoded(data: bytes, where: str) -> str:
    """Return the text of a file, with or without a byte order mark; raise DataError for no text."""
    encoding = _MARKS.get(data[:2], "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        plain = encoding.removesuffix("-sig").upper()
        raise DataError(f"{where}: byte {error.start} is no {plain} text, {_WANTED}") from None
    if (odd := _NO_TEXT.search(text)) is not None:
        line = text.count("\n", 0, odd.start()) + 1
        byte = f"byte {ord(odd[0])}" if ord(odd[0]) else "a zero byte"
        raise DataError(f"{where}: line {line} holds {byte}: this is no text, {_WANTED}")
    return text


def parse_columns(text: str, where: str) -> Columns:
    """Read separated text with a header; the separator is the one that the header has most of."""
    if _JSON.match(text):
        raise DataError(f"{where}: this is JSON, {_WANTED}")
    header = text.lstrip("\r\n").split("\n", 1)[0]
    separator = max(_SEPARATORS, key=header.count)
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[list[str]] = []
    lines: list[int] = []
    broken: dict[int, str] = {}
    names: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
            elif len(cells) != len(names):
                broken[reader.line_num] = f"{len(cells)} cells, the header has {len(names)}"
            else:
                rows.append([cell.strip() for cell in cells])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num}: {error}") from None
    if not names:
        raise DataError(f"{where} is empty: expected a header with the names of the columns")
    if separator == ";":  # then the comma is a decimal one
        rows = [[_with_point(cell) for cell in cells] for cells in rows]
    _require_distinct(names, where)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    cells_of = {name: list(cells) for name, cells in zip(names, columns, strict=True) if name}
    return Columns(cells_of, lines, broken)


def _parquet(path: Path) -> Columns:
    table = read_parquet(path)
    _require_distinct(table.column_names, str(path))
    cells = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not _OF_PANDAS.fullmatch(name):
            cells[name] = [_text(value) for value in column.to_pylist()]
    return Columns(cells, range(1, len(table) + 1), {}, "row")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def _require_distinct(names: Sequence[str], where: str) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{where}: two columns are called {name!r}")


def _with_point(cell: str) -> str:
    whole, comma, rest = cell.partition(",")
    return f"{whole}.{rest}" if comma and rest.isdigit() and whole.strip("+-").isdigit() else cell


def _number(cell: str) -> float | None:
    """Return the number in a cell, NaN for a blank one, None for anything else."""
    if cell.lower() in _BLANK:
        return math.nan
    if not _PLAIN.fullmatch(cell):  # Python reads 1_0 and digits of other scripts too
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None
