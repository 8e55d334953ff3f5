"""The text form of a visual transformer.

``average/conv2s2+w32+learned:h1w8-reduction2-mlp4,2*h4w32-mlpconv1``: the whole, then its stages
between slashes; a stage is its entry, width and positions, then its layers between commas, with
their number where equal ones follow each other. A layer is heads and width of its attention, the
kind of it unless global, and kind and ratio of its feed-forward part. What a value has by default
is not said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Any

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.architecture import (
    Attention,
    Entry,
    FeedForward,
    Inner,
    Layer,
    Stage,
    VisionTransformer,
)

_SHOWN = 40
_N = "([0-9]{1,5})"
_ENTRY = re.compile(rf"(conv|merging|pooling|performer|transformer|words){_N}s{_N}(?:p{_N})?(n)?")
_RUN = re.compile(r"(?:([1-9][0-9]{0,2})\*)?(.*)", re.DOTALL)
_LAYER = re.compile(
    rf"(lpu-)?h{_N}w{_N}(?:-(window|shifted|reduction|depthwise|projection|local){_N}(?:[rk]{_N})?)?"
    r"-(mlp|mlpconv|inverted)([0-9]{1,3}(?:\.[0-9]{1,2})?)"
)
_FEED_FORWARD = {"mlp": "mlp", "mlpconv": "mlp-conv", "inverted": "inverted-residual"}
_Words = Mapping[str, Callable[[re.Match[str]], Mapping[str, Any]]]
_WHOLE: _Words = {
    "(class|average)": lambda m: {"readout": m[1]},
    f"tokens{_N}(-first)?": lambda m: {
        "tokens": int(m[1]),
        "tokens_from": "first" if m[2] else "last",
    },
    f"stem{_N}": lambda m: {"stem": int(m[1])},
    f"head{_N}": lambda m: {"head": int(m[1])},
    "post": lambda m: {"norm": "post"},
    "unbiased": lambda m: {"qkv_bias": False},
    "scaled": lambda m: {"layer_scale": True},
    f"drop{_N}": lambda m: {"drop_path": int(m[1])},
}
_STAGE: _Words = {
    f"w{_N}": lambda m: {"width": int(m[1])},
    "(learned|sinusoid|conditional|learned-map)": lambda m: {"positions": m[1]},
    "(bias|table|keys-values)": lambda m: {"relative": m[1]},
    f"inner{_N}h{_N}s{_N}": lambda m: {"inner": Inner(int(m[1]), int(m[2]), int(m[3]))},
}


def format_text(architecture: VisionTransformer) -> str:
    """Return the text form."""
    return "/".join(["+".join(_whole(architecture)), *map(_stage, architecture.stages)])


def parse_text(text: str) -> VisionTransformer:
    """Read a text form; raise ArchitectureError that says which part is none."""
    head, *stages = text.strip().split("/")
    fields = _fields(head, _WHOLE, "the part before the first '/'", "average+tokens1")
    if "readout" not in fields or not stages:
        raise ArchitectureError(
            f"{text[:_SHOWN]!r} is no transformer, expected e.g. 'average/conv2s2+w32:2*h4w32-mlp4'"
        )
    read = tuple(_read_stage(part, f"stage {place}") for place, part in enumerate(stages, 1))
    return VisionTransformer(read, **fields)


def _whole(one: VisionTransformer) -> Iterator[str]:
    yield one.readout
    if one.tokens:
        yield f"tokens{one.tokens}" + ("-first" if one.tokens_from == "first" else "")
    for name, number in (("stem", one.stem), ("head", one.head), ("drop", one.drop_path)):
        if number:
            yield f"{name}{number}"
    marks = {"post": one.norm == "post", "unbiased": not one.qkv_bias, "scaled": one.layer_scale}
    yield from (name for name, said in marks.items() if said)


@lru_cache(4096)
def _stage(stage: Stage) -> str:
    words = [_entry(stage.entry), f"w{stage.width}"]
    words += [word for word in (stage.positions, stage.relative) if word != "none"]
    if stage.inner is not None:
        words.append(f"inner{stage.inner.width}h{stage.inner.heads}s{stage.inner.stride}")
    runs = ((layer, len(list(same))) for layer, same in groupby(stage.layers))
    layers = (f"{number}*{_layer(one)}" if number > 1 else _layer(one) for one, number in runs)
    return "+".join(words) + ":" + ",".join(layers)


def _entry(entry: Entry) -> str:
    padding = f"p{entry.padding}" if entry.padding else ""
    return f"{entry.kind}{entry.kernel}s{entry.stride}{padding}" + ("n" if entry.norm else "")


@lru_cache(4096)
def _layer(layer: Layer) -> str:
    one, part = layer.attention, layer.feed_forward
    kind = {
        "global": f"-local{one.local}k{one.kernel}" if one.local else "",
        "window": f"-{'shifted' if one.shifted else 'window'}{one.window}",
        "reduction": f"-reduction{one.reduction}",
        "depthwise-reduction": f"-depthwise{one.reduction}",
        "projection": f"-projection{one.kernel}r{one.reduction}",
    }[one.kind]
    feed_forward = next(word for word, name in _FEED_FORWARD.items() if name == part.kind)
    perception = "lpu-" if layer.perception else ""
    return f"{perception}h{one.heads}w{one.width}{kind}-{feed_forward}{part.ratio / 100:g}"


@lru_cache(4096)
def _read_stage(text: str, where: str) -> Stage:
    start, _, layers = text.partition(":")
    first, _, rest = start.partition("+")
    match = _ENTRY.fullmatch(first)
    if match is None:
        raise ArchitectureError(f"{where} starts with {first[:_SHOWN]!r}, expected e.g. 'conv2s2'")
    kind, kernel, stride, padding, norm = match.groups()
    entry = Entry(kind, int(kernel), int(stride), int(padding or 0), bool(norm))  # type: ignore[arg-type]
    fields = _fields(rest, _STAGE, where, "w32+learned")
    if "width" not in fields:
        raise ArchitectureError(f"{where} has no width, expected e.g. 'w32' behind the entry")
    read: list[Layer] = []
    for place, part in enumerate(layers.split(","), 1):
        run = _RUN.fullmatch(part)
        assert run is not None  # it takes any text
        read += int(run[1] or 1) * [_read_layer(run[2], f"{where}, layers {place}")]
    return Stage(layers=tuple(read), entry=entry, **fields)


@lru_cache(4096)
def _read_layer(text: str, where: str) -> Layer:
    match = _LAYER.fullmatch(text)
    if match is None:
        raise ArchitectureError(
            f"{where} is {text[:_SHOWN]!r}, expected e.g. 'h4w32-mlp4' or 'h2w16-reduction2-mlp1'"
        )
    perception, heads, width, kind, first, second, feed_forward, ratio = match.groups()
    seen = _kind(kind, int(first or 0), int(second or 0)) if kind else {}
    attention = Attention(int(heads), int(width), **seen)
    part = FeedForward(round(100 * float(ratio)), _FEED_FORWARD[feed_forward])  # type: ignore[arg-type]
    return Layer(attention, part, bool(perception))


def _kind(word: str, first: int, second: int) -> dict[str, Any]:
    """Return the fields of an attention that a word and its numbers stand for."""
    known: dict[str, dict[str, Any]] = {
        "window": {"kind": "window", "window": first},
        "shifted": {"kind": "window", "window": first, "shifted": True},
        "reduction": {"kind": "reduction", "reduction": first},
        "depthwise": {"kind": "depthwise-reduction", "reduction": first},
        "projection": {"kind": "projection", "kernel": first, "reduction": second},
        "local": {"local": first, "kernel": second},
    }
    return known[word]


def _fields(text: str, words: _Words, where: str, example: str) -> dict[str, Any]:
    """Read words between plus signs; raise ArchitectureError for an unknown one or one again."""
    found: dict[str, Any] = {}
    for part in text.split("+") if text else []:
        matches = ((re.fullmatch(pattern, part), read) for pattern, read in words.items())
        fields = next((read(match) for match, read in matches if match), None)
        if fields is None or found.keys() & fields.keys():
            problem = "is there twice" if fields else f"is unknown, expected e.g. {example!r}"
            raise ArchitectureError(f"{where}: {part[:_SHOWN]!r} {problem}")
        found |= fields
    return found
