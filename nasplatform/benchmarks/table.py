"""A tabular benchmark: every measurement of a set of architectures, held as arrays.

On disk a table is two files: ``NAME.parquet``, one row per architecture, and ``NAME.json``, its
card. The columns of the parquet file are ``code`` (packed architecture; further words are
``code.1`` and so on), ``architecture`` (text form), ``hash``, the attributes (``params``,
``flops``, latencies, ...) and one column ``METRIC.eEPOCHS.sSEED`` for each measured quantity, NaN
where that run was not made. The card says which space and skeleton, how and by which command the
table was made, and the sha256 of the parquet file; a table whose digest differs is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nasplatform.atomic_io import replace_file, sha256, write_text
from nasplatform.errors import ArchitectureError, DataError, did_you_mean
from nasplatform.foreign import blaming, read_json
from nasplatform.parquet import read_bounded
from nasplatform.spaces import Population, Space, get_space

FORMAT = 1
Direction = Literal["maximize", "minimize"]
_COSTS = frozenset({"seconds", "train_loss"})  # less of them is better, whatever a card says not
_MEASUREMENT = re.compile(r"(?P<metric>\w+)\.e(?P<epochs>\d+)\.s(?P<seed>\d+)")
_WORD = re.compile(r"code(\.\d+)?")
_SMALL = 100_000
_MOST_SEEDS = 10_000
_KEYS_AT_ONCE = 1 << 14  # what a cache holds: twice as fast as all at once


@dataclass(frozen=True)
class BenchmarkTable:
    """B architectures of one space with F fidelities and S repetitions (seeds) of each.

    fidelities:   training lengths in epochs, ascending.
    measurements: metric -> (B, F, S) float32, NaN where not measured.
    attributes:   name -> (B,), what does not depend on training: params, flops, latencies.
    card:         how the table was made.
    digest:       sha256 of the parquet file, empty for a table that was never on disk.
    """

    name: str
    space: Space[Any]
    architectures: Population[Any]
    fidelities: tuple[int, ...]
    measurements: Mapping[str, NDArray[np.float32]]
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.architectures)

    def __repr__(self) -> str:
        epochs = ", ".join(map(str, self.fidelities))
        return (
            f"<table {self.name}: {len(self):,} architectures of space {self.space.name}, "
            f"{', '.join(self.metrics)} at {epochs} epochs, up to {self.seeds} seeds>"
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what was measured."""
        return tuple(self.measurements)

    @property
    def score(self) -> str:
        """Name of the metric that is searched where none is asked for."""
        return str(self.card.get("score", "valid_accuracy"))

    def direction(self, metric: str) -> Direction:
        """Return whether more or less of a metric is better, as the card says."""
        known: Mapping[str, Direction] = self.card.get("directions", {})
        return known.get(metric, "minimize" if metric in _COSTS else "maximize")

    @property
    def seeds(self) -> int:
        """Most repetitions of one architecture."""
        return max(int(array.shape[2]) for array in self.measurements.values())

    def values(
        self, metric: str, fidelity: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        """Return (B,) values of a metric.

        fidelity: epochs, None for the full training.
        seed:     number of the repetition, None for the mean over those that were made.
        NaN where nothing was measured. Raises DataError for a metric, fidelity or seed that the
        table does not have.
        """
        if metric not in self.measurements:
            raise DataError(
                f"table {self.name!r} has no metric {metric!r}{did_you_mean(metric, self.metrics)}"
            )
        runs = self.measurements[metric][:, self.fidelity_index(fidelity)]
        if seed is None:
            made = np.isfinite(runs)
            total = np.where(made, runs, 0).sum(1, dtype=np.float64)
            with np.errstate(invalid="ignore"):
                mean: NDArray[np.float64] = total / made.sum(1)
            return mean
        if not 0 <= seed < runs.shape[1]:
            raise DataError(f"table {self.name!r} has seeds 0 to {runs.shape[1] - 1}, not {seed}")
        return runs[:, seed].astype(np.float64)

    def scores(
        self, metric: str | None = None, fidelity: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        """Return (B,) ``values`` turned so that higher is better; None for the table's ``score``.

        Those of a metric of which less is better are negative: accuracies stay as they are.
        """
        name = metric or self.score
        values = self.values(name, fidelity, seed)
        return -values if self.direction(name) == "minimize" else values

    def fidelity_index(self, fidelity: int | None) -> int:
        """Return the position of a fidelity (None = the last); raise DataError if absent."""
        if fidelity is None:
            return len(self.fidelities) - 1
        if fidelity not in self.fidelities:
            known = ", ".join(map(str, self.fidelities))
            raise DataError(
                f"table {self.name!r} has no measurements at {fidelity} epochs; it has {known}"
            )
        return self.fidelities.index(fidelity)

    def row(self, architecture: Any) -> int:
        """Return the row of an architecture; raise ArchitectureError if it was not measured.

        The first row of that labelling answers, else the first of an isomorphic one, whose search
        is remembered: what is asked again costs microseconds.
        """
        population = self.space.population([architecture])
        code = population.codes.tobytes()
        row = self._known.get(code)
        if row is None:
            row = _first(self._by_label, population.labels)
            if row is None:
                row = _first(self._by_key, population.keys)
            if row is None:
                raise ArchitectureError(
                    f"{self.space.format(architecture)} is not among the {len(self):,} "
                    f"architectures of table {self.name!r}"
                )
            self._known[code] = row
        return row

    def rows(self, architectures: Population[Any]) -> NDArray[np.intp]:
        """Return the row of each of B architectures, (B,), as ``row`` does for one."""
        rows = _first_of_each(self._by_label, architectures.labels)
        others = np.flatnonzero(rows < 0)
        if len(others):
            rows[others] = _first_of_each(self._by_key, architectures[others].keys)
            missing = others[rows[others] < 0]
            if len(missing):
                self.row(architectures[int(missing[0])])  # says what is wrong
        return rows

    def frame(self) -> pd.DataFrame:
        """Return a tidy frame, one row per architecture, fidelity and seed that was measured."""
        b, f, s = next(iter(self.measurements.values())).shape
        columns: dict[str, Any] = {
            "architecture": np.repeat([self.space.format(a) for a in self.architectures], f * s),
            "epochs": np.tile(np.repeat(self.fidelities, s), b),
            "seed": np.tile(np.arange(s), b * f),
        }
        columns |= {name: np.repeat(values, f * s) for name, values in self.attributes.items()}
        columns |= {name: array.reshape(-1) for name, array in self.measurements.items()}
        return pd.DataFrame(columns).dropna(subset=list(self.metrics), how="all", ignore_index=True)

    @cached_property
    def _known(self) -> dict[bytes, int]:
        return {}

    @cached_property
    def _by_label(self) -> _Index:
        return _index(self.architectures.labels)

    @cached_property
    def _by_key(self) -> _Index:
        parts = range(0, len(self), _KEYS_AT_ONCE)
        keys = [self.architectures[start : start + _KEYS_AT_ONCE].keys for start in parts]
        return _index(np.concatenate(keys))


_Index = tuple[NDArray[Any], NDArray[np.intp]]  # sorted values, and the row of each


def _index(values: NDArray[Any]) -> _Index:
    order = np.argsort(values, kind="stable")
    return values[order], order


def _first(index: _Index, wanted: NDArray[Any]) -> int | None:
    """Return the first row that has the one value in ``wanted``, None where none has."""
    row = int(_first_of_each(index, wanted)[0])
    return None if row < 0 else row


def _first_of_each(index: _Index, wanted: NDArray[Any]) -> NDArray[np.intp]:
    """Return the first row of each value, -1 where none has it."""
    values, rows = index
    places = np.minimum(values.searchsorted(wanted), len(values) - 1)
    return np.where(values[places] == wanted, rows[places], -1)


def save_table(table: BenchmarkTable, path: Path, hashes: list[str] | None = None) -> None:
    """Write ``path`` (parquet) and its card beside it; each appears whole or not at all.

    hashes: canonical hashes where the caller knows them already; computing them is slow.
    """
    columns: dict[str, Any] = {
        **_words(table.architectures.codes),
        "architecture": [table.space.format(a) for a in table.architectures],
        "hash": table.architectures.hashes if hashes is None else hashes,
        **table.attributes,
    }
    for metric, array in table.measurements.items():
        for f, epochs in enumerate(table.fidelities):
            for seed in range(array.shape[2]):
                if np.isfinite(array[:, f, seed]).any():
                    columns[f"{metric}.e{epochs}.s{seed}"] = array[:, f, seed]
    with replace_file(path) as temporary:
        level = 19 if len(table) <= _SMALL else 9  # 423,624 cells: 40 s and 15 MB, or 2 s and 19 MB
        pq.write_table(pa.table(columns), temporary, compression="zstd", compression_level=level)
        digest = sha256(temporary)
        card = {
            **table.card,
            "format": FORMAT,
            "name": table.name,
            "architectures": len(table),
            "space": table.space.describe(),
            "fidelities": list(table.fidelities),
            "metrics": list(table.metrics),
            "seeds": table.seeds,
            "sha256": digest,
        }
        write_text(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")


def _words(codes: NDArray[np.uint64]) -> dict[str, NDArray[np.uint64]]:
    """Return the words of codes (B, W) by the name of their column."""
    return {f"code.{place}" if place else "code": word for place, word in enumerate(codes.T)}


def read_table_card(path: Path) -> dict[str, Any]:
    """Read the card of a table; raise DataError where it is missing or not one of ours."""
    file = path.with_suffix(".json")
    with blaming(file, DataError, "not the card of a table"):
        try:
            card = read_json(file)
        except FileNotFoundError:
            raise DataError(f"{file}: the card of the table is missing") from None
        version, digest = card["format"], card["sha256"]
        if not isinstance(digest, str):
            raise ValueError("its sha256 is no text")
    if version != FORMAT:
        raise DataError(f"{path}: table format {version!r:.40}, this version reads format {FORMAT}")
    assert isinstance(card, dict)
    return card


def read_table(path: Path) -> BenchmarkTable:
    """Read a table; raise DataError where it is missing, damaged or not what its card says."""
    card = read_table_card(path)
    if not path.exists():
        raise DataError(f"{path}: the table is missing though its card is there")
    digest = sha256(path)
    if digest != card["sha256"]:
        raise DataError(
            f"{path}: sha256 is {digest[:12]}..., its card says {card['sha256'][:12]}...: "
            f"the file is damaged or was changed; restore or rebuild it"
        )
    with blaming(path, DataError, "is no table of ours, or damaged"):
        return _read_checked(path, card, digest)


def _read_checked(path: Path, card: dict[str, Any], digest: str) -> BenchmarkTable:
    """Read a table whose digest is right; whatever it raises concerns the file."""
    options = dict(card["space"])
    space = get_space(options.pop("name"), **options)
    names = [n for n in pq.read_schema(path).names if n not in ("architecture", "hash")]
    arrays = {name: column.to_numpy() for name, column in _columns(path, names).items()}
    words = [name for name in names if _WORD.fullmatch(name)]
    fidelities = tuple(int(epochs) for epochs in card["fidelities"])
    codes = np.stack([arrays[n] for n in words], axis=1)
    looked_at = codes[:: 1 + len(codes) // _SMALL]  # the digest speaks for the others
    if codes.dtype != np.uint64 or not space.contains_codes(looked_at).all():
        raise ValueError(f"a code is no architecture of {space.name}")
    architectures = space.from_codes(codes)
    space.graphs(architectures[:1])  # the skeleton on the card may be one that nobody can compute
    return BenchmarkTable(
        name=card["name"],
        space=space,
        architectures=architectures,
        fidelities=fidelities,
        measurements=_measurements(arrays, fidelities),
        attributes={
            n: a for n, a in arrays.items() if n not in words and not _MEASUREMENT.match(n)
        },
        card=card,
        digest=digest,
    )


def _columns(path: Path, names: list[str]) -> dict[str, pa.ChunkedArray]:
    table = read_bounded(path, names)
    return dict(zip(table.column_names, table.columns, strict=True))


def _measurements(
    arrays: Mapping[str, NDArray[Any]], fidelities: tuple[int, ...]
) -> dict[str, NDArray[np.float32]]:
    found: dict[str, dict[tuple[int, int], NDArray[Any]]] = {}
    for name, values in arrays.items():
        match = _MEASUREMENT.fullmatch(name)
        if match:
            place = fidelities.index(int(match["epochs"])), int(match["seed"])
            found.setdefault(match["metric"], {})[place] = values
    rows = len(arrays["code"])
    measured = {}
    if not found:
        raise ValueError("it holds no measurement")
    for metric, runs in found.items():
        if 1 + max(seed for _, seed in runs) > _MOST_SEEDS:
            raise ValueError(f"{metric!r} has more than {_MOST_SEEDS:,} repetitions")
        cube = np.full((rows, len(fidelities), 1 + max(s for _, s in runs)), np.nan, np.float32)
        for place, values in runs.items():
            cube[:, place[0], place[1]] = values
        measured[metric] = cube
    return measured
