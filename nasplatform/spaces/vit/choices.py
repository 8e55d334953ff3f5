"""What may be chosen in a sub-space, as a list of decisions.

An architecture of a sub-space is a row of bytes, one for each open decision: the place of what was
chosen among the choices, counted from 1; 0 where its stage is not that deep. All else follows from
the list: values, decisions for samplers, edits, arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.architecture import (
    Attention,
    Entry,
    FeedForward,
    FeedForwardKind,
    Layer,
    Positions,
    Relative,
    Stage,
    VisionTransformer,
)

Choice = str | int | float | bool
_OF_LAYERS = ("attention", "heads", "head_width", "ratio", "feed_forward", "perception")
_OF_STAGE = ("entry", "width", "positions", "depth")


@dataclass(frozen=True, eq=False)
class StageChoices:
    """What may be chosen for one stage; a single choice is no decision.

    depth:      rising numbers, all as far apart.
    attention:  name -> kinds that the layers take in turn; their heads and width are not read.
    width:      channels of the tokens; empty where they are those of the attention.
    head_width: channels of queries, of keys and of values of each head.
    ratio:      hidden units of the feed-forward part by channels, multiples of 0.01.
    by_layer:   which of the fields from ``attention`` to ``perception`` each layer chooses for
                itself; the others hold for all layers of the stage.
    """

    entry: Mapping[str, Entry]
    width: tuple[int, ...]
    depth: tuple[int, ...]
    attention: Mapping[str, tuple[Attention, ...]]
    heads: tuple[int, ...]
    head_width: tuple[int, ...]
    ratio: tuple[float, ...]
    feed_forward: tuple[FeedForwardKind, ...] = ("mlp",)
    perception: tuple[bool, ...] = (False,)
    positions: tuple[Positions, ...] = ("none",)
    relative: Relative = "none"
    by_layer: tuple[str, ...] = ()

    def stage(self, chosen: Mapping[tuple[str, int | None], Any]) -> Stage:
        """Return the stage of choices, by field and layer, or None for the whole stage."""
        layers = tuple(self._layer(place, chosen) for place in range(chosen["depth", None]))
        width = chosen.get(("width", None)) or layers[0].attention.width
        positions = chosen["positions", None]
        return Stage(width, layers, self.entry[chosen["entry", None]], positions, self.relative)

    def _layer(self, place: int, chosen: Mapping[tuple[str, int | None], Any]) -> Layer:
        kind, heads, head_width, ratio, feed_forward, perception = (
            chosen[field, place if field in self.by_layer else None] for field in _OF_LAYERS
        )
        kinds = self.attention[kind]
        attention = replace(kinds[place % len(kinds)], heads=heads, width=heads * head_width)
        return Layer(attention, FeedForward(hundredths(ratio), feed_forward), perception)

    @property
    def widths(self) -> frozenset[int]:
        """Channels that the tokens may have."""
        return frozenset(self.width or (n * one for n in self.heads for one in self.head_width))

    def read(self, field: str, layer: int | None, stage: Stage) -> Any:
        """Return what a stage has chosen; for an attention or entry without a name the value."""
        if field == "depth":
            return len(stage.layers)
        if field == "entry":
            names = [name for name, entry in self.entry.items() if entry == stage.entry]
            return names[0] if names else stage.entry
        if field in _OF_STAGE:
            return getattr(stage, field)
        if field == "attention":
            return self._kind(stage, range(len(stage.layers)) if layer is None else [layer])
        one = stage.layers[layer or 0]
        if field in ("heads", "head_width"):
            return getattr(one.attention, field)
        if field == "perception":
            return one.perception
        return one.feed_forward.ratio / 100 if field == "ratio" else one.feed_forward.kind

    def _kind(self, stage: Stage, places: Sequence[int]) -> Any:
        bare = {at: replace(stage.layers[at].attention, heads=1, width=1) for at in places}
        for name, kinds in self.attention.items():
            if all(kinds[at % len(kinds)] == bare[at] for at in places):
                return name
        return "-".join(bare[at].kind for at in places)


@dataclass(frozen=True)
class Decision:
    """One decision: of a field of ``StageChoices``, or of ``readout``.

    stage: counted from 0; None for what is chosen for all stages at once.
    layer: the same; None for what holds for the whole stage.
    """

    name: str
    field: str
    stage: int | None
    layer: int | None
    choices: tuple[Choice, ...]

    def place(self, choice: Any) -> int:
        """Return the byte of a choice; raise ArchitectureError for what is none."""
        if choice not in self.choices:
            known = ", ".join(map(str, self.choices))
            raise ArchitectureError(f"decision {self.name!r} is {choice!r}, expected {known}")
        return self.choices.index(choice) + 1


@dataclass(frozen=True, eq=False)
class SubSpace:
    """A named sub-space.

    number:  what marks its architectures in codes, 1 to 255; never given to another one.
    readout: name -> readout and tokens, fields of ``VisionTransformer``.
    whole:   further fields of ``VisionTransformer``, the same for all.
    joint:   what is chosen for all stages at once: heads, head_width or ratio -> name of a choice
             -> the number in each stage.
    input_shape, classes: of the images that it is made for.
    """

    number: int
    name: str
    stages: tuple[StageChoices, ...]
    readout: Mapping[str, Mapping[str, Any]]
    whole: Mapping[str, Any]
    joint: Mapping[str, Mapping[Choice, tuple[Any, ...]]] = field(default_factory=dict)
    input_shape: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """The open decisions in the order of the bytes, depths before what depends on them."""
        return tuple(decision for decision in self._every if len(decision.choices) > 1)

    @cached_property
    def fixed(self) -> tuple[Decision, ...]:
        """Those with a single choice."""
        return tuple(decision for decision in self._every if len(decision.choices) == 1)

    @property
    def _every(self) -> Iterator[Decision]:
        yield Decision("readout", "readout", 0, None, tuple(self.readout))
        for name, choices in self.joint.items():
            yield Decision(name, name, None, None, tuple(choices))
        for number, stage in enumerate(self.stages):
            prefix = f"stage{number + 1}_" if len(self.stages) > 1 else ""
            alone = [name for name in (*_OF_STAGE, *_OF_LAYERS) if name not in self.joint]
            for name in (one for one in alone if one not in stage.by_layer):
                yield Decision(prefix + name, name, number, None, tuple(getattr(stage, name)))
            for layer in range(stage.depth[-1]):
                for name in stage.by_layer:
                    called = f"{prefix}layer{layer + 1}_{name}"
                    yield Decision(called, name, number, layer, tuple(getattr(stage, name)))

    def parts(self, decision: Decision) -> tuple[tuple[int, Decision], ...]:
        """Return stage and decision: of a joint one its part in each stage, any other as it is."""
        if decision.stage is not None:
            return ((decision.stage, decision),)
        made = zip(*self.joint[decision.field].values(), strict=True)
        return tuple((at, replace(decision, stage=at, choices=one)) for at, one in enumerate(made))

    @cached_property
    def depths(self) -> tuple[tuple[int, int], ...]:
        """For each decision the column of the depth that it needs, and the least byte there.

        What every architecture decides needs (itself, 0).
        """
        columns = {d.stage: at for at, d in enumerate(self.decisions) if d.field == "depth"}
        needed = []
        for column, decision in enumerate(self.decisions):
            if decision.stage is None or decision.layer is None:
                needed.append((column, 0))
                continue
            less = sum(depth <= decision.layer for depth in self.stages[decision.stage].depth)
            needed.append((columns[decision.stage], less + 1) if less else (column, 0))
        return tuple(needed)

    def architecture(self, row: Sequence[int]) -> VisionTransformer:
        """Return the architecture of a row of bytes."""
        chosen: list[dict[tuple[str, int | None], Any]] = [{} for _ in self.stages]
        places = [*zip(self.decisions, row, strict=True), *((one, 1) for one in self.fixed)]
        for decision, place in places:
            for number, part in self.parts(decision) if place else ():
                chosen[number][part.field, part.layer] = part.choices[place - 1]
        readout = self.readout[chosen[0].pop(("readout", None))]
        pairs = zip(self.stages, chosen, strict=True)
        stages = tuple(choices.stage(made) for choices, made in pairs)
        return VisionTransformer(stages, **readout, **self.whole)

    def row(self, architecture: VisionTransformer) -> list[int]:
        """Return the bytes of an architecture.

        Raises ArchitectureError for one that is no member, naming what no choice allows.
        """
        if len(architecture.stages) != len(self.stages):
            raise ArchitectureError(
                f"{len(architecture.stages)} stage(s), sub-space {self.name!r} has "
                f"{len(self.stages)}"
            )
        for decision in self.fixed:
            self._place(decision, architecture)
        row = [self._place(decision, architecture) for decision in self.decisions]
        wrong = next(_differences(architecture, self.architecture(row)), None)
        if wrong is not None:
            raise ArchitectureError(f"no member of sub-space {self.name!r}: {wrong}")
        return row

    def _place(self, decision: Decision, architecture: VisionTransformer) -> int:
        if decision.field == "readout":
            return decision.place(self._readout(architecture))
        if decision.stage is None:
            return decision.place(self._joint(decision.field, architecture))
        stage = architecture.stages[decision.stage]
        if (decision.layer or 0) >= len(stage.layers):
            return 0
        choices = self.stages[decision.stage]
        return decision.place(choices.read(decision.field, decision.layer, stage))

    def _joint(self, field: str, architecture: VisionTransformer) -> Any:
        pairs = zip(self.stages, architecture.stages, strict=True)
        numbers = tuple(choices.read(field, None, stage) for choices, stage in pairs)
        known = {value: name for name, value in self.joint[field].items()}
        return known.get(numbers, numbers)

    def _readout(self, architecture: VisionTransformer) -> str:
        for name, known in self.readout.items():
            if all(getattr(architecture, field) == value for field, value in known.items()):
                return name
        return architecture.readout


def hundredths(ratio: float) -> int:
    """Return a ratio as ``FeedForward`` holds it."""
    return round(100 * ratio)


def _differences(given: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Yield the fields in which two values differ."""
    if is_dataclass(given) and type(given) is type(expected):
        for field in fields(given):
            inner = f"{where}.{field.name}" if where else field.name
            yield from _differences(
                getattr(given, field.name), getattr(expected, field.name), inner
            )
    elif isinstance(given, tuple) and isinstance(expected, tuple) and len(given) == len(expected):
        for place, (one, other) in enumerate(zip(given, expected, strict=True)):
            yield from _differences(one, other, f"{where}[{place}]")
    elif given != expected:
        yield f"{where} is {given!r}, expected {expected!r}"
