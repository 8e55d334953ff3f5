"""A third party's plug-in: a space of bit strings that costs nothing to evaluate.

A string and its mirror image are the same architecture. Real, small implementations of the
contracts, so that the search can be tested without a table and without training.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from nasplatform.errors import ArchitectureError
from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.predictors.base import Prediction, Predictor
from nasplatform.spaces.base import Population, Space
from nasplatform.spaces.graph import GraphBatch, Operation

VOCABULARY = (
    Operation("input", "input"),
    Operation("zero", "skip"),
    Operation("one", "conv", kernel=1),
    Operation("output", "output"),
)


@dataclass(frozen=True)
class Bitstring:
    bits: tuple[int, ...]

    @property
    def canonical(self) -> tuple[int, ...]:
        return min(self.bits, self.bits[::-1])

    @property
    def hash(self) -> str:
        return "".join(map(str, self.canonical))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bitstring) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)


class Strings(Population[Bitstring]):
    def __init__(self, codes: NDArray[np.uint64], n: int) -> None:
        super().__init__(codes)
        self.n = n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self._unpack(self.codes[index])
        return Strings(self.codes[index], self.n)

    def _unpack(self, code: NDArray[np.uint64]) -> Bitstring:
        return Bitstring(tuple(int(code[0]) >> i & 1 for i in range(self.n)))

    @property
    def matrix(self) -> NDArray[np.uint64]:
        return self.codes >> np.arange(self.n, dtype=np.uint64) & np.uint64(1)

    @property
    def keys(self) -> NDArray[np.uint64]:
        weights = np.uint64(1) << np.arange(self.n, dtype=np.uint64)
        return np.minimum((self.matrix * weights).sum(1), (self.matrix[:, ::-1] * weights).sum(1))

    @property
    def hashes(self) -> list[str]:
        return [bits.hash for bits in self]


class BitsOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    n: int = Field(8, ge=2, le=32)
    enumerable: bool = True


class Bits(Space[Bitstring]):
    name = "bits"
    Options = BitsOptions
    prior = "uniform over the strings"

    def parse(self, text: str) -> Bitstring:
        if len(text) != self.options.n or set(text) - {"0", "1"}:
            raise ArchitectureError(f"expected {self.options.n} bits, found {text!r}")
        return Bitstring(tuple(map(int, text)))

    def format(self, architecture: Bitstring) -> str:
        return "".join(map(str, architecture.bits))

    def population(self, architectures: Sequence[Bitstring]) -> Strings:
        if isinstance(architectures, Strings):
            return architectures
        codes = [sum(bit << i for i, bit in enumerate(a.bits)) for a in architectures]
        return Strings(np.array(codes, np.uint64), self.options.n)

    def from_codes(self, codes: NDArray[np.uint64]) -> Strings:
        return Strings(codes, self.options.n)

    def enumerate(self) -> Strings | None:
        if not self.options.enumerable:
            return None
        every = self.from_codes(np.arange(2**self.options.n, dtype=np.uint64))
        return every[np.unique(every.keys, return_index=True)[1]]

    def sample(self, n: int, rng: np.random.Generator) -> Strings:
        return self.from_codes(rng.integers(2**self.options.n, size=n, dtype=np.uint64))

    def neighbours(self, architectures: Sequence[Bitstring]) -> Strings:
        given = self.population(architectures)
        flips = np.uint64(1) << np.arange(self.options.n, dtype=np.uint64)
        around = self.from_codes((given.codes ^ flips).ravel())
        return around[np.unique(around.keys, return_index=True)[1]]

    def graphs(self, architectures: Sequence[Bitstring]) -> GraphBatch:
        """N = n + 2 nodes in a chain; what a mirror image must not change is symmetrised."""
        strings = self.population(architectures)
        b, n = len(strings), self.options.n
        bits = self.population([Bitstring(s.canonical) for s in strings]).matrix
        ops = np.zeros((b, n + 2), np.int8)
        ops[:, 1:-1] = bits + np.uint64(1)
        ops[:, -1] = 3
        chain = np.eye(n + 2, k=1, dtype=np.uint8)
        cost = (ops == 2).astype(np.int64)[:, None, :]
        return GraphBatch(
            space=self.name,
            vocabulary=VOCABULARY,
            stages=(0,),
            adjacency=np.repeat(chain[None], b, axis=0),
            ops=ops,
            channels=np.ones((b, 1, n + 2), np.int32),
            flops=2 * cost,
            params=cost,
            total_flops=2 * cost.sum((1, 2)) + 2,
            total_params=cost.sum((1, 2)) + 1,
            resolution=np.ones((b, 1, n + 2), np.int32),
        )

    def build(self, architecture: Bitstring) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))

    def distributions(self) -> dict[str, BaseDistribution]:
        return {f"bit_{i}": CategoricalDistribution([0, 1]) for i in range(self.options.n)}

    def to_params(self, architecture: Bitstring) -> dict[str, Any]:
        return {f"bit_{i}": bit for i, bit in enumerate(architecture.bits)}

    def from_params(self, params: Mapping[str, Any]) -> Bitstring:
        return Bitstring(tuple(int(params[f"bit_{i}"]) for i in range(self.options.n)))


class BitsEvaluatorOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    seconds: float = 0.0
    log: str = ""
    kill_after: int = 0
    unknown: bool = False
    broken: tuple[str, ...] = ()
    lethal: tuple[str, ...] = ()
    flaky: str = ""
    bug: bool = False
    says: str = ""
    writes: str = ""


class BitsEvaluator(Evaluator[Bitstring]):
    """Scores a string; ``log`` gets a line per evaluation, so that tests can see what was paid.

    ``kill_after`` kills the process hard right after that many evaluations, once; what is
    ``broken`` fails, what is ``lethal`` kills its process each time; ``flaky`` names a file whose
    lines are the connections that are lost before one holds; ``bug`` is a mistake in the code;
    ``says`` is printed; ``writes`` names a file that is written, maybe on a full disk;
    ``unknown`` hides that the space can be enumerated.
    """

    name = "bits"
    stops_early = True
    Options = BitsEvaluatorOptions

    def __init__(self, options: BitsEvaluatorOptions, space: Bits) -> None:
        super().__init__(options, space)
        self.task = "ones"
        self.fidelities = (1,)
        self.candidates = None if options.unknown else space.enumerate()

    def metrics(self) -> tuple[str, ...]:
        return ("ones",)

    def known_scores(self, seed: int = 0) -> NDArray[np.float64] | None:
        return None if self.candidates is None else score(self.candidates)

    def evaluate(self, architecture: Bitstring, fidelity: int, seed: int) -> Evaluation:
        time.sleep(self.options.seconds)
        sys.stdout.write(self.options.says)
        sys.stdout.flush()
        if architecture.hash in self.options.lethal:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.options.bug:
            raise KeyError("a mistake in the evaluator")
        if self.options.writes:
            Path(self.options.writes).write_text("checkpoint")
        if self.options.flaky:
            _lose_connections(Path(self.options.flaky))
        value = float(score(self.space.population([architecture]))[0])
        if self.options.log:
            log = Path(self.options.log)
            with log.open("a") as file:
                file.write(f"{architecture.hash}\n")
            if len(log.read_text().splitlines()) == self.options.kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
        if architecture.hash in self.options.broken:
            return Evaluation(float("nan"), seconds=1.5, error="out of memory")
        return Evaluation(value, {"ones": float(sum(architecture.bits))}, seconds=1.5)

    def evaluate_reporting(
        self, architecture: Bitstring, fidelity: int, seed: int, report: Report
    ) -> Evaluation:
        """Ten epochs, in which the score grows to what it will be."""
        whole = self.evaluate(architecture, fidelity, seed)
        for epoch in range(1, 10):
            if report(epoch, whole.score * epoch / 10):
                return Evaluation(
                    whole.score * epoch / 10, whole.metrics, 0.15 * epoch, None, epoch
                )
        return whole


def _lose_connections(file: Path) -> None:
    lines = file.read_text().splitlines()
    if lines:
        file.write_text("\n".join(lines[1:]))
        raise ConnectionError(lines[0])


def score(strings: Strings) -> NDArray[np.float64]:
    """Mean of the bits, and a bonus for neighbours that agree; the same for a mirror image."""
    bits = strings.matrix.astype(np.float64)
    agree = (bits[:, 1:] == bits[:, :-1]).mean(1)
    edge = 0.1 * (bits[:, 0] + bits[:, -1])
    return 0.6 * bits.mean(1) + 0.3 * agree - edge


class RidgeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    strength: float = Field(1.0, gt=0)


class Ridge(Predictor):
    name = "ridge"
    Options = RidgeOptions

    def _features(self, graphs: GraphBatch) -> NDArray[np.float64]:
        bits = (graphs.ops == 2).astype(np.float64)
        pairs = bits[:, 1:] * bits[:, :-1]
        return np.hstack([bits, bits[:, ::-1], pairs, np.ones((len(bits), 1))])

    def _fit(self, graphs: Any, scores: Any, unlabelled: Any, progress: Any) -> None:
        x = self._features(graphs)
        self.centre = scores.mean()
        inverse = np.linalg.inv(x.T @ x + self.options.strength * np.eye(x.shape[1]))
        self.weights = inverse @ x.T @ (scores - self.centre)
        self.inverse = inverse * max(float(np.var(scores - self.centre - x @ self.weights)), 1e-6)
        progress(1, 1)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        x = self._features(graphs)
        std = np.sqrt(np.einsum("bi,ij,bj->b", x, self.inverse, x))
        return Prediction(self.centre + x @ self.weights, std)

    def _state(self) -> Mapping[str, NDArray[Any]]:
        return {"c": np.array([self.centre]), "w": self.weights, "i": self.inverse}

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.centre, self.weights, self.inverse = state["c"][0], state["w"], state["i"]
