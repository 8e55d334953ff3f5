"""A parquet file that somebody made is read, or refused in a line of the platform's."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nasplatform.benchmarks.imports.parquet import read_parquet
from nasplatform.errors import DataError


def test_texts_that_are_no_text_are_refused(tmp_path: Path) -> None:
    ends = pa.array([0, 2], pa.int32()).buffers()[1]
    odd = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"architecture": odd}), tmp_path / "t")
    with pytest.raises(DataError, match=r"/t cannot be read as parquet: .*UTF8") as found:
        read_parquet(tmp_path / "t")
    assert len(str(found.value).splitlines()) == 1


def test_what_pandas_wrote_beside_it_is_not_needed(tmp_path: Path) -> None:
    table = pa.table({"a": ["x"], "b": [1.0]}).replace_schema_metadata({b"pandas": b"\x80{"})
    pq.write_table(table, tmp_path / "t")
    assert read_parquet(tmp_path / "t", ["a"]).to_pandas().to_dict("list") == {"a": ["x"]}


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "t")
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_parquet(tmp_path / "t")
