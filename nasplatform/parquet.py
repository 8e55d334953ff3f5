"""Parquet files that others may have written: read within bounds.

A column of one value, or of one text, takes no room in a file however many rows it has. The rows
are counted before they are read, and texts stay in dictionaries until it is known how long they are
when written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ROWS = 4_000_000
_VALUES = 64_000_000  # of all columns that are read; all of NAS-Bench-101 has some 25 million
_BYTES = 256 << 20  # of texts, written out; larger files may have _TIMES their size
_TIMES = 50


def read_bounded(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or those of some columns that it has.

    Raises ValueError for more rows, values or bytes of texts than a table of ours may have; what
    else is wrong with a file, Arrow and the system tell.
    """
    whole = pa.BufferReader(path.read_bytes())
    metadata = pq.read_metadata(whole)
    schema = metadata.schema.to_arrow_schema()
    names = [name for name in schema.names if columns is None or name in columns]
    _require(metadata.num_rows, _ROWS, "rows")
    _require(metadata.num_rows * len(names), _VALUES, "values")
    texts = [name for name in names if _text(schema.field(name).type)]
    whole.seek(0)
    file = pq.ParquetFile(whole, metadata=metadata, pre_buffer=False, read_dictionary=texts)
    table: pa.Table = file.read(columns=columns and names, use_threads=False)
    most = max(_BYTES, _TIMES * whole.size())
    if sum(_at_most(table.column(name)) for name in texts) > most:
        _require(sum(_size(table.column(name)) for name in texts), most, "bytes of texts")
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if name in texts and pa.types.is_dictionary(column.type):
            table = table.set_column(place, name, column.cast(column.type.value_type))
    return table


def _text(kind: pa.DataType) -> bool:
    of_dictionary = pa.types.is_dictionary(kind) and _text(kind.value_type)
    plain = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    return bool(of_dictionary or plain)


def _at_most(column: pa.ChunkedArray) -> int:
    """Return what ``_size`` cannot exceed, without a look at each row."""
    return sum(
        len(chunk) * chunk.dictionary.nbytes
        if isinstance(chunk, pa.DictionaryArray)
        else chunk.nbytes
        for chunk in column.chunks
    )


def _size(column: pa.ChunkedArray) -> int:
    """Return the bytes of a column of texts with each row written out."""
    found = 0
    for chunk in column.chunks:
        if not isinstance(chunk, pa.DictionaryArray):
            found += chunk.nbytes
        elif len(chunk.dictionary):
            lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
            found += pc.sum(lengths.cast(pa.int64())).as_py() or 0
    return found


def _require(count: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(f"{count:,} {what}, expected at most {most:,}")
