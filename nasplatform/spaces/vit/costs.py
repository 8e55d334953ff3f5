"""Exact parameters and multiply-adds of every part of every transformer, without building one.

Counted as the modules compute: multiply-adds of convolutions, linear layers and products of
attention; biases, normalisation, softmax, activations and additions cost nothing. All arrays have
length B in front, or 1 for what all share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.architecture import VisionTransformer
from nasplatform.spaces.vit.numbers import (
    ATTENTIONS,
    ENTRIES,
    FEED_FORWARDS,
    POSITIONS,
    Ints,
    Numbers,
)
from nasplatform.spaces.vit.positions import DISTANCE

Bools = NDArray[np.bool_]
_COUNTED = ("conv", "merging", "pooling")


@dataclass(frozen=True)
class Costs:
    """Of B transformers.

    height, width: (B, S) the map of each stage, in tokens.
    entry_params, entry_macs: (B, S) entry and positions of each stage, class tokens among them.
    layer_params, layer_macs: (B, S, L), 0 where there is no layer.
    attention_macs: (B, S, L) the part of ``layer_macs`` that are products of attention: queries
             with keys, and weights with values.
    params, macs: (B,) in all, with stem and classifier.
    """

    height: Ints
    width: Ints
    entry_params: Ints
    entry_macs: Ints
    layer_params: Ints
    layer_macs: Ints
    attention_macs: Ints
    params: Ints
    macs: Ints


def count(numbers: Numbers, input_shape: tuple[int, int, int], classes: int) -> Costs:
    """Count a population; raise ArchitectureError for entries that only their modules can count."""
    whole = numbers.example
    for stage in whole.stages:
        if stage.entry.kind not in _COUNTED or stage.inner is not None:
            raise ArchitectureError(f"entry {stage.entry.kind!r} is counted by its modules only")
    colours, *start = input_shape
    stem_params, stem_macs = _stem(whole, colours, start)
    if whole.stem:
        colours, start = whole.stem, [-(-side // 2) for side in start]
    height, width = (_sides(numbers, side) for side in start)
    entry_params, entry_macs = _entries(numbers, colours, height, width)
    layers = _Layers.of(numbers, height, width)
    there = numbers.layers["there"]
    params, macs, products = (there * part for part in layers.counted())
    table = _tables(layers) if whole.stages[0].relative == "table" else np.zeros((1, 1), np.int64)
    entry_params = entry_params + table
    head_params, head_macs = _head(numbers, height[:, -1] * width[:, -1], classes)
    return Costs(
        height,
        width,
        entry_params,
        entry_macs,
        params,
        macs + products,
        products,
        stem_params + entry_params.sum(1) + params.sum((1, 2)) + head_params,
        stem_macs + entry_macs.sum(1) + (macs + products).sum((1, 2)) + head_macs,
    )


def _stem(whole: VisionTransformer, colours: int, start: list[int]) -> tuple[int, int]:
    c = whole.stem
    weights = 9 * c * (colours + 2 * c)
    area = (-(-start[0] // 2)) * (-(-start[1] // 2))
    return (weights + 3 * 3 * c, weights * area) if c else (0, 0)


def _sides(numbers: Numbers, side: int) -> Ints:
    """Return (B, S) a side of the map of each stage."""
    found: list[Ints] = []
    before = np.array([side])
    for place in range(numbers.width.shape[1]):
        kind, kernel, stride, padding = (
            numbers.stages[name][:, place] for name in ("kind", "kernel", "stride", "padding")
        )
        strided = (before + 2 * padding - kernel) // stride + 1
        before = np.where(kind == ENTRIES.index("merging"), -(-before // stride), strided)
        found.append(before)
    return np.stack(np.broadcast_arrays(*found), axis=1)


def _entries(numbers: Numbers, colours: int, height: Ints, width: Ints) -> tuple[Ints, Ints]:
    """Return parameters and multiply-adds (B, S) of entries, positions and class tokens."""
    e, tokens, stages = numbers.width, numbers.tokens, numbers.stages
    before = np.concatenate([np.full((len(e), 1), colours), e[:, :-1]], axis=1)
    known = np.concatenate([np.zeros((len(tokens), 1), np.int64), tokens[:, :-1]], axis=1)
    places = height * width
    merging = stages["kind"] == ENTRIES.index("merging")
    side = np.where(merging, stages["stride"], stages["kernel"])
    pooling = stages["kind"] == ENTRIES.index("pooling")
    weights = np.where(pooling, 1, before) * side**2 * e
    params = weights + np.where(merging, 2 * before * side**2, e + 2 * e * stages["norm"])
    macs = weights * places
    learned = stages["positions"] == POSITIONS.index("learned")
    on_map = stages["positions"] == POSITIONS.index("learned-map")
    conditional = stages["positions"] == POSITIONS.index("conditional")
    carried, fresh = known > 0, (tokens > 0) & (known == 0)
    params = params + (learned * (tokens + places) + on_map * places + conditional * 10) * e
    params = params + fresh * tokens * e + carried * (before + 1) * e
    macs = macs + conditional * 9 * e * places + carried * known * before * e
    return params, macs


def _head(numbers: Numbers, places: Ints, classes: int) -> tuple[Ints, Ints]:
    whole, e = numbers.example, numbers.width[:, -1]
    if whole.head:
        weights = e * whole.head + whole.head * classes
        macs = e * whole.head * places + whole.head * classes
        return weights + 3 * whole.head + classes, macs
    times = np.where(numbers.by_token, numbers.tokens[:, -1], 1)
    norm = 2 * e if whole.norm == "pre" else 0
    return norm + times * (e + 1) * classes, times * e * classes


@dataclass(frozen=True)
class _Layers:
    """Numbers (B, S, L) of all layers: channels, sides of the map, class tokens."""

    numbers: Numbers
    e: Ints
    h: Ints
    w: Ints
    tokens: Ints

    @classmethod
    def of(cls, numbers: Numbers, height: Ints, width: Ints) -> _Layers:
        e, h, w, tokens = (
            array[:, :, None] for array in (numbers.width, height, width, numbers.tokens)
        )
        return cls(numbers, e, h, w, tokens)

    def __getitem__(self, name: str) -> Ints:
        return self.numbers.layers[name]

    def counted(self) -> tuple[Ints, Ints, Ints]:
        """Return parameters, multiply-adds but for products of attention, and those."""
        attention, products = self._attention()
        rest = self._rest()
        return attention[0] + rest[0], attention[1] + rest[1], products

    def _is(self, *kinds: str) -> Bools:
        return np.isin(self["attention"], [ATTENTIONS.index(kind) for kind in kinds])

    def _attention(self) -> tuple[tuple[Ints, Ints], Ints]:
        e, h, w, t = self.e, self.h, self.w, self.tokens
        whole, places = self.numbers.example, h * w
        width = self["heads"] * self["head_width"]
        seen = (self["heads"] - self["local"]) * self["head_width"]
        r, k = self["reduction"], self["kernel"]
        params = 2 * e * seen + e * width + (width + 1) * e
        params = params + int(whole.qkv_bias) * (2 * seen + width)

        queries = t + places
        windowed = self._is("window")
        side = np.where(windowed, self["window"], 1)
        filled = (-(-h // side) * side) * (-(-w // side) * side)
        queries = np.where(windowed, filled, queries)
        reduced, projected = self._is("reduction", "depthwise-reduction"), self._is("projection")
        smaller = (h // r) * (w // r)
        strided = ((h - 1) // r + 1) * ((w - 1) // r + 1)
        keys = np.select([reduced, projected], [t + smaller, t + strided], queries)
        macs = queries * (e * seen + width * e) + keys * (e * seen + e * width)
        products = 2 * queries * np.where(windowed, side**2, keys) * seen

        for parts in self._convolutions(places, smaller, strided, k, r):
            params, macs = params + parts[0], macs + parts[1]
        local = self["local"] * self["head_width"]
        params, macs = params + (local > 0) * local * (k**2 + 1), macs + local * k**2 * places
        relative, extra = self._relative(places)
        return (params + relative, macs), products + extra

    def _convolutions(
        self, places: Ints, smaller: Ints, strided: Ints, k: Ints, r: Ints
    ) -> Iterator[tuple[Ints, Ints]]:
        """Yield parameters and multiply-adds of what stands before queries, keys and values."""
        e = self.e
        full, depthwise = self._is("reduction"), self._is("depthwise-reduction")
        projected = self._is("projection")
        yield full * (e**2 * r**2 + 3 * e), full * e**2 * r**2 * smaller
        yield depthwise * (e * r**2 + 3 * e), depthwise * e * r**2 * smaller
        yield projected * 3 * (e * k**2 + 2 * e), projected * e * k**2 * (places + 2 * strided)

    def _relative(self, places: Ints) -> tuple[Ints, Ints]:
        """Return parameters of relative positions in each layer, and their products."""
        h, w, t, heads = self.h, self.w, self.tokens, self["heads"]
        nothing = np.zeros((1, 1, 1), np.int64)
        kinds = {stage.relative for stage in self.numbers.example.stages}
        if kinds == {"bias"}:
            windowed, side = self._is("window"), self["window"]
            high, wide = (np.where(windowed, side, whole) for whole in (h, w))
            return heads * (2 * high - 1) * (2 * wide - 1), nothing
        if kinds == {"keys-values"}:
            head_width = self["head_width"]
            apart = np.where(t > 0, t + places, 0)
            products = heads * head_width * (2 * places * (h + w) + apart)
            return 4 * (2 * DISTANCE + 2) * head_width, products
        return nothing, nothing

    def _rest(self) -> tuple[Ints, Ints]:
        """Return what norms, local perception, layer scale and feed-forward part cost."""
        e, places = self.e, self.h * self.w
        whole, perception = self.numbers.example, self["perception"]
        hidden = e * self["ratio"] // 100
        inverted = self["feed_forward"] == FEED_FORWARDS.index("inverted-residual")
        window = inverted | (self["feed_forward"] == FEED_FORWARDS.index("mlp-conv"))
        params = 4 * e + 2 * e * int(whole.layer_scale) + perception * 10 * e
        params = params + 2 * e * hidden + hidden + e + window * 10 * hidden
        params = params + inverted * (4 * hidden + 2 * e)
        macs = perception * 9 * e * places + window * 9 * hidden * places
        return params, macs + (self.tokens + places) * 2 * e * hidden


def _tables(layers: _Layers) -> Ints:
    """Return (B, S) parameters of the tables that the layers of a stage share (CMT)."""
    heads, ratio = layers["heads"][:, :, 0], layers["reduction"][:, :, 0]
    h, w = layers.h[:, :, 0], layers.w[:, :, 0]
    tables: Ints = heads * h * w * (h // ratio) * (w // ratio)
    return tables
