"""Label protocols: which measurement is learnt from, which is predicted, and random draws of both.

The field's own have names and stand in ``protocols.yaml``; ``table_protocol`` makes that of any
table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from nasplatform.benchmarks.registry import list_tables, load_table
from nasplatform.benchmarks.table import BenchmarkTable
from nasplatform.errors import PredictorError, did_you_mean
from nasplatform.spaces.graph import GraphBatch

Floats = NDArray[np.float64]
_HELD_OUT = 5000


class Measurement(BaseModel):
    """Which value of a table: metric (the first one that it has), epochs, repetition.

    No epochs stand for the full training, no repetition for the mean of all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str | tuple[str, ...]
    fidelity: int | None
    seed: int | None

    def values(self, table: BenchmarkTable) -> Floats:
        """Return (B,) values, higher is better, NaN where the table has none."""
        wanted = (self.metric,) if isinstance(self.metric, str) else self.metric
        metric = next((name for name in wanted if name in table.metrics), wanted[0])
        return table.scores(metric, self.fidelity, self.seed)


class Protocol(BaseModel):
    """A label protocol; the fields are explained in ``protocols.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    about: str
    table: tuple[str, ...]
    train: Measurement
    test: Measurement
    train_rows: Literal["unlabelled", "any"]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """One random choice of labels under a protocol.

    train, test: graphs that are learnt from (n) and predicted (m); they share no architecture.
    labels:      (n,) what the predictor is told.
    truth:       (m,) what it is judged by, higher is better.
    unique:      (m,) True where no isomorphic architecture was learnt from.
    held_out, held_out_labels: at most 5,000 further architectures with the measurement that was
        learnt from: what the predicted mean and standard deviation speak of. The truth often is
        another quantity (test in place of validation, a mean in place of one run).
    """

    train: GraphBatch
    labels: Floats
    test: GraphBatch
    truth: Floats
    unique: NDArray[np.bool_]
    held_out: GraphBatch
    held_out_labels: Floats


def protocols() -> dict[str, Protocol]:
    """Return every protocol by name."""
    text = files("nasplatform.predictors").joinpath("protocols.yaml").read_text("utf-8")
    return {name: Protocol(name=name, **entry) for name, entry in yaml.safe_load(text).items()}


def get_protocol(name: str) -> Protocol:
    """Return a protocol; raise PredictorError for an unknown name."""
    known = protocols()
    if name not in known:
        raise PredictorError(f"unknown protocol {name!r}{did_you_mean(name, known)}")
    return known[name]


def table_protocol(
    table: str, labels: tuple[int, ...], metric: str | None = None, fidelity: int | None = None
) -> Protocol:
    """Return the protocol of anybody's table: a few random rows -> the same of all the others.

    table:  name or path. metric: by default the table's score. fidelity: by default the last.
    Raises DataError where the table, or such a measurement of it, is not there.
    """
    found = load_table(table)
    measured = Measurement(metric=metric or found.score, fidelity=fidelity, seed=None)
    measured.values(found)
    return Protocol(
        name=found.name,
        source="protocol of any table",
        about=f"{measured.metric} of a few random architectures -> that of all the others",
        table=(str(table),),
        train=measured,
        test=measured,
        train_rows="any",
        labels=labels,
    )


def graphs_of(protocol: Protocol) -> GraphBatch:
    """Return the graphs of all architectures of a protocol's table."""
    return _arena(protocol).graphs


def most_labels(protocol: Protocol) -> int:
    """Return how many labels a protocol can draw at most, so that two others can be judged."""
    arena = _arena(protocol)
    judged = np.setdiff1d(arena.test_rows, arena.train_rows)
    return len(arena.train_rows) - max(0, 2 - len(judged))


def draw(protocol: Protocol, labels: int, seed: int) -> Draw:
    """Choose ``labels`` architectures at random and set the others that have a truth apart.

    Raises DataError where the table is not at hand, PredictorError where it has too few labels.
    """
    arena = _arena(protocol)
    rng = np.random.default_rng([seed, labels])
    if labels > len(arena.train_rows):
        raise PredictorError(
            f"protocol {protocol.name!r} has {len(arena.train_rows)} labels, "
            f"{labels} were asked for"
        )
    train = rng.choice(arena.train_rows, labels, replace=False)
    test = np.setdiff1d(arena.test_rows, train)
    others = np.setdiff1d(arena.train_rows, train)
    held_out = rng.permutation(others)[:_HELD_OUT]
    graphs, keys = arena.graphs, arena.table.architectures.keys
    return Draw(
        train=graphs[train],
        labels=arena.train_values[train],
        test=graphs[test],
        truth=arena.test_values[test],
        unique=~np.isin(keys[test], keys[train]),
        held_out=graphs[held_out],
        held_out_labels=arena.train_values[held_out],
    )


@dataclass(frozen=True)
class _Arena:
    """The table of a protocol with what may be learnt from and what may be asked."""

    table: BenchmarkTable
    graphs: GraphBatch
    train_values: Floats
    test_values: Floats
    train_rows: NDArray[np.intp]
    test_rows: NDArray[np.intp]


def _arena(protocol: Protocol) -> _Arena:
    known = list_tables()
    at_hand = [name for name in protocol.table if name in known or "/" in name or "." in name]
    name = at_hand[0] if at_hand else protocol.table[0]
    return _arena_of(protocol, load_table(name).digest, name)


@lru_cache(maxsize=4)
def _arena_of(protocol: Protocol, digest: str, name: str) -> _Arena:
    """Read the table; its digest tells one that was replaced since from the one that is kept."""
    table = load_table(name)
    train, test = protocol.train.values(table), protocol.test.values(table)
    learnable, judged = np.isfinite(train), np.isfinite(test)
    if protocol.train_rows == "unlabelled" and not judged.all():
        learnable &= ~judged
    return _Arena(
        table=table,
        graphs=table.space.graphs(table.architectures),
        train_values=train,
        test_values=test,
        train_rows=np.flatnonzero(learnable),
        test_rows=np.flatnonzero(judged),
    )
