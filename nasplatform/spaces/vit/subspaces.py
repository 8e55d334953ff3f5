"""The named sub-spaces.

``autoformer-tiny``, ``-small``, ``-base``: those of AutoFormer (Chen et al., ICCV 2021, table 1):
one embedding and depth, heads and ratio by layer, 64 channels of queries, keys and values a head.
``pyramid``: four stages as PVT, Swin and Twins have them. ``hybrid``: pyramids with convolutions
in every part, after CvT and CMT. ``pit-tiny``: pooling pyramids (PiT, Heo et al., ICCV 2021) as
TF-TAS (Zhou et al., CVPR 2022) and ViT-Bench-101 choose among them. ``digits``: tiny isotropic ones
for images of about 8 x 8.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

from nasplatform.spaces.vit.architecture import Attention, AttentionKind, Entry
from nasplatform.spaces.vit.choices import Choice, StageChoices, SubSpace

_Kinds = dict[str, tuple[Attention, ...]]
_AVERAGE = {"average": {"readout": "average", "tokens": 0}}
_CLASS = {"class": {"readout": "class", "tokens": 1}}


def _kind(kind: AttentionKind = "global", **fields: Any) -> Attention:
    return Attention(1, 1, kind, **fields)


_GLOBAL: _Kinds = {"global": (_kind(),)}


def _autoformer(
    number: int,
    size: str,
    width: tuple[int, ...],
    depth: tuple[int, ...],
    heads: tuple[int, ...],
    ratio: tuple[float, ...],
) -> SubSpace:
    stage = StageChoices(
        entry={"conv16s16": Entry()},
        width=width,
        depth=depth,
        attention=_GLOBAL,
        heads=heads,
        head_width=(64,),
        ratio=ratio,
        positions=("learned",),
        relative="keys-values",
        by_layer=("heads", "ratio"),
    )
    # The class token takes part in attention; the mean that is read is over the map.
    readout = {"average": {"readout": "average", "tokens": 1}}
    return SubSpace(number, f"autoformer-{size}", (stage,), readout, {})


def _reduction(side: int) -> _Kinds:
    return {f"reduction{side}": (_kind("reduction", reduction=side),)}


def _windows(side: int) -> _Kinds:
    shifted = _kind("window", window=side, shifted=True)
    return {f"window{side}": (_kind("window", window=side), shifted)}


def _local_global(side: int, reduction: int) -> _Kinds:
    local = _kind("window", window=side)
    return {f"window{side}-reduction{reduction}": (local, _kind("reduction", reduction=reduction))}


def _pyramid() -> SubSpace:
    patches = {"conv4s4": Entry("conv", 4, 4, norm=True), "conv7s4": Entry("conv", 7, 4, 3, True)}
    halves = {
        "conv2s2": Entry("conv", 2, 2, norm=True),
        "conv3s2": Entry("conv", 3, 2, 1, True),
        "merging2": Entry("merging", 2, 2),
    }
    widths = (64, 96, 128), (128, 192, 256), (256, 320, 384), (384, 512, 768)
    heads = (1, 2, 4), (2, 4, 8), (4, 5, 8, 12), (8, 12, 16)
    depths = (2, 3, 4), (2, 3, 4), tuple(range(2, 13)), (2, 3, 4)
    attention: tuple[_Kinds, ...] = (
        _reduction(8) | _windows(7) | _local_global(7, 8),
        _reduction(4) | _windows(7) | _local_global(7, 4),
        _GLOBAL | _reduction(2) | _windows(7) | _local_global(7, 2),
        _GLOBAL,
    )
    stages = tuple(
        StageChoices(
            entry=halves if place else patches,
            width=widths[place],
            depth=depths[place],
            attention=attention[place],
            heads=heads[place],
            head_width=(32, 64),
            ratio=(2.0, 4.0, 8.0) if place < 2 else (2.0, 4.0),
            feed_forward=("mlp", "mlp-conv"),
            positions=("none", "learned", "conditional"),
        )
        for place in range(4)
    )
    return SubSpace(4, "pyramid", stages, _AVERAGE | _CLASS, {})


def _hybrid() -> SubSpace:
    halves = {
        "conv2s2": Entry("conv", 2, 2, norm=True),
        "conv3s2": Entry("conv", 3, 2, 1, True),
    }
    widths = (40, 48, 64), (80, 96, 128), (160, 192, 256), (320, 384, 512)
    heads = (1, 2), (2, 3, 4), (4, 6, 8), (8, 12, 16)
    depths = (1, 2, 3), (1, 2, 3), tuple(range(2, 11)), (1, 2, 3)
    stages = tuple(
        StageChoices(
            entry=halves,
            width=widths[place],
            depth=depths[place],
            attention={
                f"depthwise{side}": (_kind("depthwise-reduction", reduction=side),),
                f"projection{side}": (_kind("projection", reduction=side, kernel=3),),
                **_reduction(side),
            },
            heads=heads[place],
            head_width=(16, 32),
            ratio=(2.0, 3.0, 4.0),
            feed_forward=("mlp", "mlp-conv", "inverted-residual"),
            perception=(False, True),
            positions=("none", "conditional"),
        )
        for place, side in enumerate((8, 4, 2, 1))
    )
    return SubSpace(5, "hybrid", stages, _AVERAGE, {"stem": 16})


def _digits() -> SubSpace:
    stage = StageChoices(
        entry={
            "conv1s1": Entry("conv", 1, 1),
            "conv2s2": Entry("conv", 2, 2),
            "conv3s2": Entry("conv", 3, 2, 1),
        },
        width=(16, 24, 32, 48),
        depth=(1, 2, 3, 4),
        attention={
            **_GLOBAL,
            **_reduction(2),
            "projection": (_kind("projection", kernel=3),),
        },
        heads=(1, 2, 4),
        head_width=(8,),
        ratio=(1.0, 2.0, 4.0),
        feed_forward=("mlp", "mlp-conv"),
        positions=("none", "learned", "conditional"),
        by_layer=("attention", "heads", "ratio", "feed_forward"),
    )
    return SubSpace(6, "digits", (stage,), _AVERAGE | _CLASS, {}, input_shape=(1, 8, 8), classes=10)


def _pit() -> SubSpace:
    bases, ratios, heads = (16, 24, 32, 40), (2.0, 4.0, 6.0, 8.0), (2, 4, 8)
    # Channels are heads by base: a pooling that makes more of them makes a multiple of them.
    rising = combinations_with_replacement(heads, 3)
    first, half = {"conv16s8": Entry("conv", 16, 8)}, {"pooling3s2": Entry("pooling", 3, 2, 1)}
    stages = tuple(
        StageChoices(
            entry=half if place else first,
            width=(),
            depth=depths,
            attention=_GLOBAL,
            heads=heads,
            head_width=bases,
            ratio=ratios,
            positions=("none",) if place else ("learned-map",),
        )
        for place, depths in enumerate(((1, 2, 3), (4, 6, 8), (2, 4, 6)))
    )
    joint: dict[str, dict[Choice, tuple[float, ...]]] = {
        "heads": {"-".join(map(str, one)): one for one in rising},
        "head_width": {base: (base,) * 3 for base in bases},
        "ratio": {ratio: (ratio,) * 3 for ratio in ratios},
    }
    return SubSpace(7, "pit-tiny", stages, _CLASS, {"tokens_from": "first"}, joint)


SUBSPACES = {
    known.name: known
    for known in (
        _autoformer(1, "tiny", (192, 216, 240), (12, 13, 14), (3, 4), (3.5, 4.0)),
        _autoformer(2, "small", (320, 384, 448), (12, 13, 14), (5, 6, 7), (3.0, 3.5, 4.0)),
        _autoformer(3, "base", (528, 576, 624), (14, 15, 16), (9, 10), (3.0, 3.5, 4.0)),
        _pyramid(),
        _hybrid(),
        _digits(),
        _pit(),
    )
}
BY_NUMBER = {known.number: known for known in SUBSPACES.values()}
