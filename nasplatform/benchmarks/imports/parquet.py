"""Parquet files of strangers: whole, with texts that are texts, or refused in a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from nasplatform import faults
from nasplatform.errors import DataError
from nasplatform.parquet import read_bounded

_NO_PARQUET = re.compile("magic bytes|minimum file footer|file size is")


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some columns of it; raise DataError where it is damaged.

    What pandas wrote beside it is left out: it may be damaged, and is not needed.
    """
    try:
        table = read_bounded(path, columns)
        table.validate(full=True)  # texts that are no UTF-8 come to light here
    except (OSError, ValueError, pa.ArrowException) as error:
        words = faults.first_line(error)
        if _NO_PARQUET.search(words):
            words = "it is of another format, or cut off"
        raise DataError(f"{path} cannot be read as parquet: {words}") from None
    return table.replace_schema_metadata()
