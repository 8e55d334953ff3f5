"""The contract of a performance predictor, and how every one is stored."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel
from safetensors.numpy import load_file, save_file

from nasplatform.atomic_io import replace_folder, require_own
from nasplatform.errors import PredictorError
from nasplatform.foreign import blaming, path_of, read_json, require_tensors
from nasplatform.plugin_contracts import check_reason
from nasplatform.spaces.graph import Attribute, GraphBatch, Operation

FORMAT = 4
FILES = ("card.json", "state.safetensors", "space.json", "learnt_from.json")
"""What the folder of a saved predictor may hold; the last two say more of it (``runs.saved``)."""
LARGEST_SCORE = 1e12
"""Magnitude up to which scores can be squared and summed in single precision."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of B architectures, in the unit of the scores it was fitted on.

    mean: (B,) float64, higher is better.
    std:  (B,) float64, standard deviation of a new measurement around ``mean``.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mean)

    def __repr__(self) -> str:
        ends = f", mean {self.mean.min():.4g} to {self.mean.max():.4g}" if len(self) else ""
        return f"<prediction of {len(self):,} architectures{ends}>"


class Predictor(ABC):
    """Learns to score architectures from a few that were measured.

    Life cycle: made with its options and a seed; ``fit`` once or again (each fit starts afresh);
    ``predict`` any number of times; ``save`` into a folder, from which ``load`` makes an equal
    predictor. A subclass writes ``_fit``, ``_predict``, ``_state`` and ``_restore``; checks and
    files are done here. Everything random comes from ``seed``.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    min_labels: ClassVar[int] = 2

    def __init__(self, options: BaseModel | None = None, seed: int = 0) -> None:
        """Take the options (an instance of ``Options``, None for the defaults) and a seed.

        Raises PredictorError for a seed that is no whole number from 0 to 2**31 - 1.
        """
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if not whole or not 0 <= seed < 2**31:
            raise PredictorError(
                f"seed: expected a whole number from 0 to {2**31 - 1}, got {repr(seed)[:40]}"
            )
        self.options = self.Options() if options is None else options
        self.seed = int(seed)
        self._like: GraphBatch | None = None  # an empty batch: what kind of graphs we know
        self.n_labels = 0

    def __repr__(self) -> str:
        learnt = "not fitted"
        if self._like is not None:
            learnt = f"fitted to {self.n_labels:,} labels of space {self._like.space}"
        return f"<predictor {self.name}, seed {self.seed}, {learnt}>"

    def fit(
        self,
        graphs: GraphBatch,
        scores: ArrayLike,
        unlabelled: GraphBatch | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from measured architectures.

        graphs:     B labelled architectures.
        scores:     (B,) measured scores, higher is better.
        unlabelled: further architectures without scores, for methods that use them.
        progress:   called with (steps done, steps in all) from time to time.
        Raises PredictorError for too few, constant or non-finite scores, and for graphs that it
        does not support.
        """
        _require_graphs(graphs)
        who = f"predictor {self.name!r}: supports"
        reason = check_reason(who, self.supports(graphs))
        if reason is not None:
            raise PredictorError(
                f"predictor {self.name!r} cannot learn from graphs of space {graphs.space!r}: "
                f"{reason}"
            )
        labels = _labels(scores)
        self._check_labels(graphs, labels)
        if unlabelled is not None:
            _require_graphs(unlabelled)
            graphs.require_same_kind(unlabelled)
        self._fit(graphs, labels, unlabelled, progress or (lambda done, total: None))
        self._like = graphs[:0]
        self.n_labels = len(labels)
        return self

    def supports(self, graphs: GraphBatch) -> str | None:
        """Return None where it sees all that tells these graphs apart, else the reason why not."""
        return None

    def quick(self) -> Predictor:
        """Return an unfitted predictor of this kind for a search, which fits it again and again."""
        return self

    def predict(self, graphs: GraphBatch) -> Prediction:
        """Score B architectures. Raises PredictorError before ``fit`` or for another space."""
        if self._like is None:
            raise PredictorError(f"predictor {self.name!r} was not fitted yet: call fit first")
        _require_graphs(graphs)
        self._like.require_same_kind(graphs)
        if not len(graphs):
            return Prediction(np.empty(0), np.empty(0))
        found = self._predict(graphs)
        self._check_prediction(found, len(graphs))
        return found

    def save(self, folder: Path | str) -> None:
        """Write ``card.json`` and ``state.safetensors``; the folder appears whole or not at all.

        Raises PredictorError before ``fit``, and where something else than a predictor stands.
        """
        if self._like is None:
            raise PredictorError(f"predictor {self.name!r} was not fitted yet: nothing to save")
        home = path_of(folder, PredictorError)
        require_own(home, FILES, PredictorError)
        with replace_folder(home) as new:
            save_file(self._arrays(), new / "state.safetensors")
            (new / "card.json").write_text(json.dumps(self.card(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what ``save`` wrote. Raises PredictorError for a damaged or newer folder."""
        card = read_card(folder)
        if card["predictor"] != cls.name:
            raise PredictorError(
                f"{folder}: holds predictor {card['predictor']!r:.60}, not {cls.name!r}"
            )
        with blaming(folder, PredictorError, "damaged predictor"):
            state_file = Path(folder) / "state.safetensors"
            require_tensors(state_file)
            with blaming(state_file, PredictorError, "is damaged"):
                state = load_file(state_file)
            predictor = cls(cls.Options.model_validate(card["options"]), seed=card["seed"])
            predictor._like = _empty_batch(card["graphs"])
            predictor.n_labels = card["n_labels"]
            predictor._restore(state)
        return predictor

    @classmethod
    def about(cls) -> str:
        """Return what the predictor is, in a line."""
        return (cls.__doc__ or "").strip().split("\n")[0]

    def notes(self) -> tuple[str, ...]:
        """Return what was done otherwise than usual with these labels, for the card."""
        return ()

    def card(self) -> dict[str, Any]:
        """Return what stands on the card: what it is, options, seed, graphs it knows, versions."""
        assert self._like is not None
        return {
            "format": FORMAT,
            "predictor": self.name,
            "about": self.about(),
            "options": self.options.model_dump(mode="json"),
            "seed": self.seed,
            "n_labels": self.n_labels,
            "notes": list(self.notes()),
            "graphs": _describe_batch(self._like),
            "versions": {p: metadata.version(p) for p in ("nasplatform", "torch", "scikit-learn")},
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learnt, as a file holds it; raise PredictorError for anything else."""
        who, state = f"_state of predictor {self.name!r}", self._state()
        if not isinstance(state, Mapping):
            raise PredictorError(f"{who} returned a {type(state).__name__}, expected name -> array")
        for key, value in state.items():
            if not isinstance(key, str) or not isinstance(value, np.ndarray):
                raise PredictorError(
                    f"{who}: {key!r} is a {type(value).__name__}, expected an array, as "
                    f"'np.array(...)' makes one; '_restore' is given it as such"
                )
            if value.dtype.kind not in "biuf":
                raise PredictorError(f"{who}: {key!r} is {value.dtype}, expected numbers")
        # safetensors writes the bytes as they lie: another order in memory would be lost
        return {key: np.asarray(value, order="C") for key, value in state.items()}

    def _check_prediction(self, found: object, count: int) -> None:
        who = f"predictor {self.name!r}"
        if not isinstance(found, Prediction):
            raise PredictorError(
                f"{who} predicts a {type(found).__name__}, expected a Prediction(mean, std)"
            )
        for name in ("mean", "std"):
            array = getattr(found, name)
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            if kind != np.float64 or array.shape != (count,):
                raise PredictorError(
                    f"{who} predicts {name} as {kind} {np.shape(array)}, expected float64 "
                    f"({count},), a number for each graph"
                )
            if not np.isfinite(array).all():
                raise PredictorError(f"{who} predicts {name} with values that are not finite")
        if (found.std < 0).any():
            raise PredictorError(f"{who} predicts a negative std, {found.std.min():g}")

    def _check_labels(self, graphs: GraphBatch, labels: NDArray[np.float64]) -> None:
        if labels.shape != (len(graphs),):
            raise PredictorError(
                f"scores have shape {labels.shape}, expected ({len(graphs)},), one per graph"
            )
        if len(labels) < self.min_labels:
            raise PredictorError(
                f"predictor {self.name!r} needs at least {self.min_labels} labels, "
                f"{len(labels)} given"
            )
        bad = np.flatnonzero(~np.isfinite(labels))
        if len(bad):
            raise PredictorError(f"scores[{bad[0]}] is {labels[bad[0]]}: scores must be finite")
        large = np.flatnonzero(np.abs(labels) > LARGEST_SCORE)
        if len(large):
            raise PredictorError(
                f"scores[{large[0]}] is {labels[large[0]]:g}: scores lie within "
                f"{LARGEST_SCORE:g} of 0; use another unit"
            )
        if np.ptp(labels) == 0:
            raise PredictorError(
                f"all {len(labels)} scores are {labels[0]}: nothing can be learnt from them"
            )

    @abstractmethod
    def _fit(
        self,
        graphs: GraphBatch,
        scores: NDArray[np.float64],
        unlabelled: GraphBatch | None,
        progress: Progress,
    ) -> None: ...

    @abstractmethod
    def _predict(self, graphs: GraphBatch) -> Prediction: ...

    @abstractmethod
    def _state(self) -> Mapping[str, NDArray[Any]]:
        """Return all fitted values as arrays."""

    @abstractmethod
    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what ``_state`` returned."""


def read_card(folder: Path | str) -> dict[str, Any]:
    """Read ``card.json`` of a saved predictor; raise PredictorError where there is none."""
    path = path_of(folder, PredictorError) / "card.json"
    with blaming(folder, PredictorError, "no predictor stands here"):
        card = read_json(path)
        version, _ = card["format"], card["predictor"]
        seed, n_labels = card.get("seed"), card.get("n_labels")
    if version == FORMAT and not (_is_count(seed) and _is_count(n_labels)):
        raise PredictorError(f"{path}: 'seed' and 'n_labels' must be whole numbers from 0")
    if version != FORMAT:
        raise PredictorError(
            f"{path}: format {version!r:.40}, this version of nasplatform reads format {FORMAT}; "
            f"fit the predictor again, or read it with the version that wrote it"
        )
    assert isinstance(card, dict)
    return card


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _labels(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores by position, masked ones as NaN; raise PredictorError for no real numbers."""
    if isinstance(scores, np.ma.MaskedArray):
        scores = np.ma.filled(scores.astype(np.float64), np.nan)
    values = list(scores) if isinstance(scores, Iterator) else scores
    try:
        found = np.asarray(values)
        if found.dtype.kind in "cmMV":
            raise TypeError(f"{found.dtype} is no real number")
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor with gradients
        raise PredictorError(f"scores: expected one number for each graph ({error})") from None


def finite_labels(scores: ArrayLike, count: int) -> NDArray[np.float64]:
    """Return ``count`` scores by position; raise PredictorError for anything else."""
    found = _labels(scores)
    if found.shape != (count,):
        raise PredictorError(f"scores have shape {found.shape}, expected ({count},)")
    if len(bad := np.flatnonzero(~np.isfinite(found))):
        raise PredictorError(f"scores[{bad[0]}] is {found[bad[0]]}, expected a finite number")
    return found


def _require_graphs(graphs: object) -> None:
    if not isinstance(graphs, GraphBatch):
        raise PredictorError(
            f"expected the graphs of architectures, as space.graphs(architectures) makes them, "
            f"found {type(graphs).__name__}"
        )


def _describe_batch(like: GraphBatch) -> dict[str, Any]:
    return {
        "space": like.space,
        "vocabulary": [asdict(operation) for operation in like.vocabulary],
        "stages": list(like.stages),
        "n_nodes": like.n_nodes,
        "positional": like.positional,
        "attributes": [asdict(attribute) for attribute in like.attribute_schema],
    }


def _empty_batch(description: Mapping[str, Any]) -> GraphBatch:
    n, c = description["n_nodes"], len(description["stages"])
    schema = tuple(Attribute(**attribute) for attribute in description["attributes"])
    return GraphBatch(
        space=description["space"],
        vocabulary=tuple(Operation.from_json(known) for known in description["vocabulary"]),
        stages=tuple(description["stages"]),
        adjacency=np.empty((0, n, n), np.uint8),
        ops=np.empty((0, n), np.int8),
        channels=np.empty((0, c, n), np.int32),
        flops=np.empty((0, c, n), np.int64),
        params=np.empty((0, c, n), np.int64),
        total_flops=np.empty(0, np.int64),
        total_params=np.empty(0, np.int64),
        resolution=np.empty((0, c, n), np.int32),
        positional=description["positional"],
        attribute_schema=schema,
        attributes=np.empty((0, n, len(schema)), np.float32) if schema else None,
    )
