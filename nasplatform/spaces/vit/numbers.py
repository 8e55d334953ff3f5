"""Visual transformers as arrays of whole numbers, from which all that is counted follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.vit.architecture import (
    Attention,
    AttentionKind,
    Entry,
    EntryKind,
    FeedForwardKind,
    Layer,
    Positions,
    Stage,
    VisionTransformer,
)
from nasplatform.spaces.vit.choices import Decision, StageChoices, SubSpace, hundredths
from nasplatform.spaces.vit.population import Rows

Ints = NDArray[np.int64]
ENTRIES: tuple[EntryKind, ...] = get_args(EntryKind)
ATTENTIONS: tuple[AttentionKind, ...] = get_args(AttentionKind)
FEED_FORWARDS: tuple[FeedForwardKind, ...] = get_args(FeedForwardKind)
POSITIONS: tuple[Positions, ...] = get_args(Positions)


@dataclass(frozen=True)
class Numbers:
    """B transformers of S stages of at most L layers.

    What all of them share has length 1 instead of B. Kinds are places in ``ENTRIES`` and so on.

    stages: name -> (B, S): width, positions, and the fields of the entry.
    layers: name -> (B, S, L): there (1 or 0), heads, head_width, the other fields of attention,
            ratio in hundredths, feed_forward, perception.
    tokens: (B, S), class tokens in each stage. by_token: (B,), 1 where these are read.
    example: one of them, for the fields that do not vary in a sub-space.
    """

    stages: Mapping[str, Ints]
    layers: Mapping[str, Ints]
    tokens: Ints
    by_token: Ints
    example: VisionTransformer

    @classmethod
    def of(cls, rows: Rows, subspace: SubSpace) -> Numbers:
        """Return those of rows (B, D) of a sub-space."""
        deepest = [len(one.choices) if one.field == "depth" else 1 for one in subspace.decisions]
        example = subspace.architecture(deepest)
        numbers = cls.of_one(example)
        stages, layers = dict(numbers.stages), dict(numbers.layers)
        tokens, by_token = numbers.tokens, numbers.by_token
        for column, decision in enumerate(subspace.decisions):
            places = np.maximum(rows[:, column].astype(np.intp), 1) - 1
            if decision.field == "readout":
                made = [
                    cls.of_one(subspace.architecture([place + 1, *deepest[1:]]))
                    for place in range(len(decision.choices))
                ]
                tokens = np.concatenate([one.tokens for one in made])[places]
                by_token = np.concatenate([one.by_token for one in made])[places]
                continue
            for number, part in subspace.parts(decision):
                _choose(part, number, subspace.stages[number], places, stages, layers)
        for number, choices in enumerate(subspace.stages):
            if not choices.width:
                first = (layers[name][:, number, 0] for name in ("heads", "head_width"))
                _set(stages, "width", (number,), np.multiply(*first))
        return cls(stages, layers, tokens, by_token, example)

    @classmethod
    def of_one(cls, architecture: VisionTransformer) -> Numbers:
        """Return those of one architecture."""
        most = max(len(stage.layers) for stage in architecture.stages)
        padded = [
            [_layer(stage.layers[min(at, len(stage.layers) - 1)]) for at in range(most)]
            for stage in architecture.stages
        ]
        there = [
            [int(at < len(stage.layers)) for at in range(most)] for stage in architecture.stages
        ]
        layers = {name: [[one[name] for one in row] for row in padded] for name in padded[0][0]}
        stages = [_stage(stage) for stage in architecture.stages]
        tokens = [architecture.tokens_in(place) for place in range(len(stages))]
        return cls(
            {name: np.array([[one[name] for one in stages]]) for name in stages[0]},
            {name: np.array([rows]) for name, rows in (layers | {"there": there}).items()},
            np.array([tokens]),
            np.array([int(architecture.readout == "class")]),
            architecture,
        )

    @property
    def width(self) -> Ints:
        """(B, S) channels of the tokens."""
        return self.stages["width"]


def _choose(
    decision: Decision,
    number: int,
    choices: StageChoices,
    places: NDArray[np.intp],
    stages: dict[str, Ints],
    layers: dict[str, Ints],
) -> None:
    """Let what was chosen (B,) for a stage stand in the arrays."""
    if decision.field == "depth":
        deep = np.arange(layers["there"].shape[2]) < np.array(decision.choices)[:, None]
        _set(layers, "there", (number, slice(None)), deep[places])
    elif decision.field in ("entry", "width", "positions"):
        for name, values in _of_stage(decision, choices).items():
            _set(stages, name, (number,), np.array(values)[places])
    else:
        every = range(choices.depth[-1])
        for layer in every if decision.layer is None else [decision.layer]:
            for name, values in _of_layer(decision, choices, layer).items():
                _set(layers, name, (number, layer), np.array(values)[places])


def _set(arrays: dict[str, Ints], name: str, where: tuple[Any, ...], values: NDArray[Any]) -> None:
    """Let the values (B, ...) stand at a place, in an array that may be shared so far."""
    array = arrays[name]
    if len(array) != len(values):
        array = arrays[name] = np.repeat(array, len(values), axis=0)
    array[:, *where] = values


def _of_stage(decision: Decision, choices: StageChoices) -> Mapping[str, list[int]]:
    """Return name -> number for each choice."""
    if decision.field == "entry":
        every = [_entry(choices.entry[str(name)]) for name in decision.choices]
        return {name: [one[name] for one in every] for name in every[0]}
    if decision.field == "positions":
        return {"positions": [POSITIONS.index(name) for name in decision.choices]}
    return {decision.field: [int(choice) for choice in decision.choices]}


def _of_layer(decision: Decision, choices: StageChoices, layer: int) -> Mapping[str, list[int]]:
    if decision.field == "attention":
        kinds = [choices.attention[str(name)] for name in decision.choices]
        every = [_attention(kind[layer % len(kind)]) for kind in kinds]
        return {name: [one[name] for one in every] for name in every[0]}
    if decision.field == "feed_forward":
        return {"feed_forward": [FEED_FORWARDS.index(name) for name in decision.choices]}
    if decision.field == "ratio":
        return {"ratio": [hundredths(float(choice)) for choice in decision.choices]}
    return {decision.field: [int(choice) for choice in decision.choices]}


def _stage(stage: Stage) -> dict[str, int]:
    return {
        "width": stage.width,
        "positions": POSITIONS.index(stage.positions),
        **_entry(stage.entry),
    }


def _entry(entry: Entry) -> dict[str, int]:
    return {**asdict(entry), "kind": ENTRIES.index(entry.kind), "norm": int(entry.norm)}


def _layer(layer: Layer) -> dict[str, int]:
    return {
        "heads": layer.attention.heads,
        "head_width": layer.attention.head_width,
        **_attention(layer.attention),
        "ratio": layer.feed_forward.ratio,
        "feed_forward": FEED_FORWARDS.index(layer.feed_forward.kind),
        "perception": int(layer.perception),
    }


def _attention(one: Attention) -> dict[str, int]:
    return {
        "attention": ATTENTIONS.index(one.kind),
        "window": one.window,
        "shifted": int(one.shifted),
        "reduction": one.reduction,
        "kernel": one.kernel,
        "local": one.local,
    }
