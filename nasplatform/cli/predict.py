"""``nasplatform predict``: scores of architectures by a fitted predictor.

A file is one architecture per line, or separated text (or parquet) with a header that names the
column. Every line is answered: what is no architecture has its error in place of a score, and the
exit code is then 2.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nasplatform.cli.display import emit, say, show_table, watched
from nasplatform.cli.run import JsonFlag

_AT_ONCE = 20_000
_NAME = re.compile(r"[\w .-]*")  # of a column
_COLUMNS = ("line", "architecture", "mean", "std", "rank", "params", "flops", "error")


@dataclass(frozen=True)
class _Asked:
    """Texts of architectures, where each stands, and what is wrong with lines that hold none."""

    texts: Sequence[str]
    lines: Sequence[int]
    broken: Mapping[int, str]
    unit: str


def predict(
    folder: Annotated[
        Path, typer.Option("-p", "--predictor", help="Folder of a fitted predictor, or of a run.")
    ],
    architectures: Annotated[
        list[str] | None, typer.Argument(help="Text forms of architectures.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(help="File of them, - for stdin: one a line, or csv with a header; to CSV."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Column of the text forms.", show_default="architecture")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Predict the scores of architectures with a fitted predictor; rank 1 is the best of them.

    Lines of a file that are no architecture are told by number, the others are answered, and the
    exit code is 2.
    """
    from nasplatform.errors import ArchitectureError, DataError, PredictorError
    from nasplatform.foreign import blaming
    from nasplatform.runs.saved import load_predictor

    if (file is None) == (not architectures):
        raise ArchitectureError("give architectures, or --file FILE (- for stdin): one of them")
    predictor, space = load_predictor(folder)
    if file is None:
        with blaming(folder, PredictorError, "cannot predict"):
            rows = _rows(predictor, space, _given(architectures or []))
        _complain(rows, "architecture")
        kept = [{name: row[name] for name in _COLUMNS[1:-1]} for row in rows]
        if as_json:
            emit(kept)
        else:
            show_table(kept, _COLUMNS[1:-1])
        return
    asked = _read(file, architecture, space)
    if not asked.texts and not asked.broken:
        raise DataError(f"{'stdin' if file == '-' else file}: holds no architecture")
    words = f"scoring {len(asked.texts):,} architectures"
    with (
        watched("predict", words, "nothing was written") as progress,
        blaming(folder, PredictorError, "cannot predict"),
    ):
        rows = _rows(predictor, space, asked, progress)
    if as_json:
        emit(rows)
    else:
        _write_csv(rows)
    _complain(rows, asked.unit)


def _given(architectures: Sequence[str]) -> _Asked:
    return _Asked(architectures, range(1, len(architectures) + 1), {}, "architecture")


def _read(file: str, column: str | None, space: Any) -> _Asked:
    """Read a file, or stdin, of text forms: plain lines, or the column of a table."""
    from nasplatform.benchmarks.imports.columns import decoded, parse_columns, read_columns
    from nasplatform.errors import DataError

    where = "stdin" if file == "-" else file
    if file != "-" and not Path(file).is_file():
        raise DataError(f"{file} is not a file")
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    if file != "-" and data[:4] == b"PAR1":
        columns = read_columns(Path(file))
    else:
        text = decoded(data, where)
        if column is None and not _is_table(text, where, space):
            lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
            filled = [(n, line) for n, line in lines if line]
            return _Asked([line for _, line in filled], [n for n, _ in filled], {}, "line")
        columns = parse_columns(text, where)
    try:
        texts = columns[column or "architecture"]
    except DataError as error:
        hint = "" if column else "; --architecture names that of the text forms"
        raise DataError(f"{where}: {error}{hint}") from None
    return _Asked(texts, columns.lines, columns.broken, columns.unit)


def _is_table(text: str, where: str, space: Any) -> bool:
    """Say whether the first line is a header: it has the usual name, or is words that are none."""
    first = text.lstrip("\r\n").split("\n", 1)[0].strip()
    names = [cell.strip(' "') for cell in re.split("[,;\t]", first)]
    several = len(names) > 1 or Path(where).suffix.lower() in (".csv", ".tsv")
    words = several and any(names) and all(_NAME.fullmatch(name) for name in names)
    return "architecture" in names or (words and bool(space.parse_many([first])[1]))


def _rows(
    predictor: Any,
    space: Any,
    asked: _Asked,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Return a row of ``_COLUMNS`` for each line, in the order of the file."""
    import numpy as np

    if (words := space.caution(asked.texts)) is not None:
        say(f"note: {words}")
    population, errors = space.parse_many(asked.texts)
    good = [place for place in range(len(asked.texts)) if place not in errors]
    said = []
    for start in range(0, len(population), _AT_ONCE):
        graphs = space.graphs(population[start : start + _AT_ONCE])
        found = predictor.predict(graphs)
        said.append(np.stack([found.mean, found.std, graphs.total_params, graphs.total_flops]))
        progress(min(start + _AT_ONCE, len(population)), len(population))
    mean, std, params, flops = np.concatenate(said, axis=1) if said else np.empty((4, 0))
    rank = 1 + len(mean) - np.searchsorted(np.sort(mean), mean, side="right")
    rows: dict[int, dict[str, Any]] = {}
    for line, words in asked.broken.items():
        rows[line] = {"line": line, "architecture": None, "error": words}
    for place, error in errors.items():
        line = asked.lines[place]
        rows[line] = {"line": line, "architecture": asked.texts[place], "error": str(error)}
    for at, place in enumerate(good):
        rows[asked.lines[place]] = {
            "line": asked.lines[place],
            "architecture": asked.texts[place],
            "mean": float(mean[at]),
            "std": float(std[at]),
            "rank": int(rank[at]),
            "params": int(params[at]),
            "flops": int(flops[at]),
            "error": None,
        }
    return [rows[line] for line in sorted(rows)]


def _write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    import csv

    writer = csv.DictWriter(sys.stdout, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _complain(rows: Sequence[Mapping[str, Any]], unit: str) -> None:
    """Raise ArchitectureError that counts and names the lines that are none."""
    from nasplatform.benchmarks.imports.measured import quoted
    from nasplatform.errors import ArchitectureError

    bad = [f"{unit} {row['line']}: {row['error']}" for row in rows if row["error"] is not None]
    if bad:
        raise ArchitectureError(bad[0] if len(bad) == 1 else quoted(bad, unit))
