"""The columns that every frame has, with their dtypes; ``docs/reference/frames.md`` explains them.

Beside these a frame may have columns named by the run itself, under a prefix that says what they
are: ``attribute_`` (known before it is measured) and ``metric_`` (measured).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

Columns = Mapping[str, str]
_TIME = "datetime64[us, UTC]"

PLACE: Columns = {
    **dict.fromkeys(("run", "search", "sampler", "predictor"), "str"),
    "run_seed": "int64",
}
"""Whose a row is; these stand first."""

RUNS: Columns = {
    **{"run": "str", "search": "str", "started": _TIME},
    **dict.fromkeys(("space", "table", "task", "metric", "sampler", "predictor"), "str"),
    **{"seed": "int64", "state": "str", "evaluations": "int64", "budget": "Int64"},
    **{"score": "float64", "architecture": "str", "front": "Int64", "stages": "int64"},
    **{"accuracy": "float64", "versions": "str", "folder": "str"},
}

EVALUATIONS: Columns = {
    **{"number": "int64", "architecture": "str", "hash": "str", "fidelity": "int64"},
    **{"seed": "int64", "score": "float64", "mean": "float64", "std": "float64"},
    **{"source": "str", "seconds": "float64", "repeats": "Int64", "stopped": "Int64"},
    **{"error": "str", "feasible": "bool", "started": _TIME, "ended": _TIME},
    **{"params": "int64", "flops": "int64"},
}

PREDICTIONS: Columns = {
    **{"number": "int64", "architecture": "str", "hash": "str", "source": "str"},
    **dict.fromkeys(("score", "mean", "std", "residual"), "float64"),
    "within90": "boolean",
}

_MEASUREMENTS: Columns = {
    "accuracy": "float64",
    **dict.fromkeys(("params", "macs", "binary_macs", "bytes_on_disk"), "int64"),
    **dict.fromkeys(("bytes_binary", "bytes_scales", "bytes_full_precision"), "int64"),
    **{"latency_ms": "float64", "latency_iqr_ms": "float64", "latency_repeats": "int64"},
    **{"latency_64_ms": "float64", "latency_64_repeats": "int64", "latency_threads": "int64"},
    **{"runtime": "str", "runtime_note": "str"},
}

STAGES: Columns = {
    **{"index": "int64", "stage": "str", "options": "str", "seed": "int64", "seconds": "float64"},
    **{
        f"{when}_{name}": kind
        for when in ("before", "after")
        for name, kind in _MEASUREMENTS.items()
    },
}

EPOCHS: Columns = {
    **{"number": "Int64", "hash": "str", "fidelity": "Int64", "index": "Int64", "stage": "str"},
    "epoch": "int64",
    **dict.fromkeys(("train_loss", "valid_accuracy", "learning_rate", "seconds"), "float64"),
}

TIMINGS: Columns = {
    **{"part": "str", "index": "Int64", "stage": "str"},
    **{"count": "int64", "seconds": "float64"},
}

_ARROW = {
    "str": pa.string(),
    **dict.fromkeys(("int64", "Int64"), pa.int64()),
    "float64": pa.float64(),
    **dict.fromkeys(("bool", "boolean"), pa.bool_()),
    _TIME: pa.timestamp("us", "UTC"),
}


def arrow_type(kind: str) -> pa.DataType:
    """Return the type that a column of a dtype has in Arrow."""
    return _ARROW[kind]


def missing_columns(table: pa.Table, columns: Columns) -> list[str]:
    """Return the names of the columns that a table lacks."""
    there = set(table.column_names)
    return [name for name in columns if name not in there]


def with_missing(table: pa.Table, columns: Columns) -> pa.Table:
    """Put columns without a value where a table lacks some."""
    for name in missing_columns(table, columns):
        table = table.append_column(name, pa.nulls(len(table), _ARROW[columns[name]]))
    return table


def empty_frame(columns: Columns) -> pd.DataFrame:
    """Return a frame of these columns without a row."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
