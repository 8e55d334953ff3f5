"""Frames as files, and many of them as one: checked where they are read, joined in Arrow.

A frame has the same dtypes however it came about: text is ``str`` (Arrow's), times are UTC to the
microsecond, and whole numbers that may be missing are ``Int64``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.extensions import ExtensionDtype

from nasplatform.atomic_io import replace_file
from nasplatform.errors import RunError
from nasplatform.foreign import blaming, require_regular
from nasplatform.parquet import read_bounded
from nasplatform.runs.columns import Columns, arrow_type, empty_frame

_TEXT = pd.StringDtype(na_value=float("nan"))
_PLAIN = (
    *(pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_timestamp),
)
_TYPES = {pa.string(): _TEXT, pa.large_string(): _TEXT}


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file that appears whole or not at all."""
    with replace_file(path) as temporary:  # of the codecs, the one that is read fastest
        frame.to_parquet(temporary, index=False, compression="lz4")


def read_table(
    path: Path, columns: Columns, numbers: Sequence[str] = (), others: Sequence[str] = ()
) -> pa.Table:
    """Read a parquet file; raise RunError where it is damaged or lacks one of the columns.

    columns: the types of those that it may have, see ``typed``.
    numbers: columns that must hold numbers; ``feasible`` among the others must hold truth values.
    """
    with blaming(path, RunError, advice="; remove it and go on with resume=True"):
        require_regular(path)
        table = read_bounded(path)
        for name in (*numbers, *others):
            kind = table.schema.field(name).type
            if not len(table) or pa.types.is_null(kind):
                continue
            number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
            if name in numbers and not number:
                raise ValueError(f"column {name!r} has no numbers")
            if name == "feasible" and not pa.types.is_boolean(kind):
                raise ValueError("column 'feasible' has no truth values")
        return typed(table, columns)


def typed(table: pa.Table, columns: Columns) -> pa.Table:
    """Return a table whose columns have their types, so that it can be joined with any other.

    Raises ValueError where one cannot, or stands twice, or where a column of another name holds
    what is neither number, text nor time.
    """
    names, fields = table.column_names, list(table.schema)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"column {twice!r:.60} stands twice")
    for place, field in enumerate(fields):
        kind = _type_of(field, columns)
        if field.type != kind:
            table = table.set_column(place, field.name, _cast(table.column(place), kind))
    return table.replace_schema_metadata()  # what pandas wrote there is not needed


def _type_of(field: pa.Field, columns: Columns) -> pa.DataType:
    if field.name in columns:
        return arrow_type(columns[field.name])
    if not any(is_kind(field.type) for is_kind in _PLAIN):
        raise ValueError(f"column {field.name!r:.60} holds {field.type}")
    return field.type


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Change the type where nothing is lost but what is shorter than a microsecond."""
    return pc.cast(column, options=pc.CastOptions(kind, allow_time_truncate=True))


def joined(known: pa.Schema, other: pa.Schema) -> pa.Schema:
    """Return both schemas as one; ValueError where a column has types that do not fit."""
    try:
        return pa.unify_schemas([known, other], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise ValueError(str(error)) from None


def to_table(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as Arrow has it."""
    return pa.Table.from_pandas(frame, preserve_index=False)


def placed(table: pa.Table, place: Mapping[str, str | int | None]) -> pa.Table:
    """Put columns of one value each before those of a table."""
    kinds: dict[type, pa.DataType] = {int: pa.int64()}
    columns = [
        pa.repeat(pa.scalar(value, kinds.get(type(value), pa.string())), len(table))
        for value in place.values()
    ]
    return pa.table([*columns, *table.columns], [*place, *table.column_names])


def to_frame(tables: Sequence[pa.Table], columns: Columns) -> pd.DataFrame:
    """Return the rows of all tables; a column that one of them lacks is missing there.

    columns: those that there always are, also where there is no row.
    """
    if not tables:
        return empty_frame(columns)
    integers = {name for name, kind in columns.items() if kind == "Int64"}
    whole = pa.concat_tables(tables, promote_options="permissive")
    del tables  # what is turned into columns of pandas is given back at once
    names = whole.column_names
    apart = {
        name: whole[name].cast(kind.pyarrow).to_pandas(types_mapper={kind.pyarrow: kind.pandas}.get)
        for name in names
        if (kind := _kind(whole[name], name in integers)) is not None
    }
    whole = whole.drop_columns(list(apart))
    frame = whole.to_pandas(
        types_mapper=_TYPES.get, ignore_metadata=True, split_blocks=True, self_destruct=True
    )
    ordered: pd.DataFrame = frame.assign(**apart)[names]
    return ordered


class _Kind(NamedTuple):
    """What a column of Arrow becomes that NumPy has no like of."""

    pyarrow: pa.DataType
    pandas: ExtensionDtype


def _kind(column: pa.ChunkedArray, integer: bool) -> _Kind | None:
    if integer or (pa.types.is_integer(column.type) and column.null_count):
        return _Kind(pa.int64(), pd.Int64Dtype())
    if pa.types.is_boolean(column.type) and column.null_count:
        return _Kind(pa.bool_(), pd.BooleanDtype())
    return None
