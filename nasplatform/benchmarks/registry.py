"""Where tables live: embedded in the package, imported by the user, or given by path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nasplatform.atomic_io import user_folder
from nasplatform.benchmarks.published import PUBLISHED
from nasplatform.benchmarks.table import BenchmarkTable, read_table
from nasplatform.errors import DataError, did_you_mean
from nasplatform.foreign import path_of

__all__ = ["embedded_folder", "list_tables", "load_table", "user_folder"]

_PACKAGE = Path(__file__).resolve().parents[1]


def embedded_folder() -> Path:
    """Return the folder of the tables that travel with the package (or with the repository)."""
    inside = _PACKAGE / "data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def list_tables() -> dict[str, Path]:
    """Return name -> path of every table at hand; the user's own come first."""
    found: dict[str, Path] = {}
    for folder in (user_folder(), embedded_folder()):
        for card in sorted(folder.glob("*.json")):
            found.setdefault(card.stem, card.with_suffix(".parquet"))
    return found


def load_table(name: str | Path) -> BenchmarkTable:
    """Load a table by name or by the path of its parquet file; raise DataError if there is none."""
    if not isinstance(name, str | Path):
        raise DataError(f"expected the name or the path of a table, got {type(name).__name__}")
    text = str(name)
    if text.endswith(".parquet") or "/" in text:
        return _loaded(path_of(text, DataError).with_suffix(".parquet").resolve())
    known = list_tables()
    if text in PUBLISHED.keys() - known.keys():
        raise DataError(f"table {text!r} is not at hand: {PUBLISHED[text].how()}")
    if text not in known:
        raise DataError(f"unknown table {text!r:.80}{did_you_mean(text, {*known, *PUBLISHED})}")
    return _loaded(known[text])


def _loaded(path: Path) -> BenchmarkTable:
    state = path.stat() if path.exists() else None
    return _load(path, state and (state.st_mtime_ns, state.st_size, state.st_ino))


@lru_cache(maxsize=4)
def _load(path: Path, state: object) -> BenchmarkTable:
    """Read a table; ``state`` tells a file that was replaced since from the one that is kept."""
    return read_table(path)
