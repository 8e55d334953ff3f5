"""Published transformers as points of the space, with what was published of their size.

Configurations are those of the authors' code; what these papers call FLOPs are multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

from nasplatform.spaces.families import Family
from nasplatform.spaces.vit.architecture import (
    Attention,
    AttentionKind,
    Entry,
    EntryKind,
    FeedForward,
    Inner,
    Layer,
    Positions,
    Relative,
    Stage,
    VisionTransformer,
)

Found = Iterator[Family[VisionTransformer]]
CLASSES = 1000
_PATCH, _HALF = Entry("conv", 4, 4, 0, norm=True), Entry("conv", 2, 2, 0, norm=True)
_ROUNDED, _CUT = "rounded in print", "cut in print, not rounded"


def families() -> tuple[Family[VisionTransformer], ...]:
    """Return every family, in the order of the survey, those that are not in it at the end."""
    groups = (_deit, _t2t, _pvt, _tnt, _cpvt, _swin, _twins, _cmt, _cvt, _autoformer, _pit)
    return tuple(family for group in groups for family in group())


def _deit() -> Found:
    """Touvron et al. 2021."""
    more = "printed multiply-adds are those without the distillation token"
    for name, width, heads, parameters, distilled, macs, note in (
        ("ti", 192, 3, 5, 6, 1.3, _CUT),
        ("s", 384, 6, 22, 22, 4.6, _ROUNDED),
        ("b", 768, 12, 86, 87, 17.6, _CUT),
    ):
        stages = (Stage(width, 12 * (Layer(Attention(heads, width)),), positions="learned"),)
        one = VisionTransformer(stages, 1, readout="class")
        two = VisionTransformer(stages, 2, readout="class")
        yield _family(f"deit-{name}", one, parameters, macs, note)
        yield _family(f"deit-{name}-distilled", two, distilled, macs, more)


def _t2t() -> Found:
    """Yuan et al. 2021."""
    kinds: dict[EntryKind, tuple[str, float, str]] = {
        "performer": (
            "t2t-14",
            4.8,
            "79,744 fixed numbers (sinusoids, random features) are parameters in the authors' "
            "code; the survey prints 5.2 G",
        ),
        "transformer": (
            "t2t-t-14",
            6.1,
            "75,648 fixed numbers (sinusoids) are parameters in the authors' code",
        ),
    }
    for kind, (name, macs, note) in kinds.items():
        layers = 14 * (Layer(Attention(6, 384), FeedForward(300)),)
        stage = Stage(384, layers, Entry(kind, 7, 16, 2), positions="sinusoid")
        architecture = VisionTransformer((stage,), 1, readout="class", qkv_bias=False)
        yield _family(name, architecture, 21.5, macs, note)


def _pvt() -> Found:
    """Wang et al. 2021."""
    heads, reductions, ratios = (1, 2, 5, 8), (8, 4, 2, 1), (800, 800, 400, 400)

    def layer(width: int, stage: int, number: int) -> Layer:
        attention = _reduced(heads[stage], width, reductions[stage])
        return Layer(attention, FeedForward(ratios[stage]))

    for name, depths, parameters, macs in (
        ("ti", (2, 2, 2, 2), 13.2, 1.9),
        ("s", (3, 4, 6, 3), 24.5, 3.8),
        ("m", (3, 4, 18, 3), 44.2, 6.7),
        ("l", (3, 8, 27, 3), 61.4, 9.8),
    ):
        stages = _pyramid((64, 128, 320, 512), depths, layer, (_PATCH, _HALF), "learned")
        architecture = VisionTransformer(stages, 1, readout="class")
        yield _family(f"pvt-{name}", architecture, parameters, macs)


def _tnt() -> Found:
    """Han et al. 2021."""
    for name, width, heads, inner, parameters, macs in (
        ("s", 384, 6, 24, 23.8, 5.2),
        ("b", 640, 10, 40, 65.6, 14.1),
    ):
        layers = 12 * (Layer(Attention(heads, width)),)
        entry = Entry("words", 7, 16, 3)
        stage = Stage(width, layers, entry, positions="learned", inner=Inner(inner, 4))
        architecture = VisionTransformer((stage,), 1, readout="class", qkv_bias=False)
        note = _ROUNDED if name == "s" else "the authors' code has 65.43 M parameters"
        yield _family(f"tnt-{name}", architecture, parameters, macs, note)


def _cpvt() -> Found:
    """Chu et al. 2021, one conditional position behind the first layer."""
    stage = Stage(384, 12 * (Layer(Attention(6, 384)),), positions="conditional")
    architecture = VisionTransformer((stage,), 1, readout="class")
    note = "no code of its authors; DeiT-S, of which it is a variant, has 22.05 M parameters"
    yield _family("cpvt-s", architecture, 23, 4.6, note)


def _swin() -> Found:
    """Liu et al. 2021."""
    merging = Entry("merging", 2, 2)
    for name, width, deep, heads, parameters, macs in (
        ("t", 96, 6, 3, 29, 4.5),
        ("s", 96, 18, 3, 50, 8.7),
        ("b", 128, 18, 4, 88, 15.4),
    ):

        def layer(width: int, stage: int, number: int, heads: int = heads) -> Layer:
            shifted = number % 2 == 1 and stage < 3  # one window is the last map
            return Layer(Attention(heads << stage, width, "window", 7, shifted))

        widths = tuple(width << stage for stage in range(4))
        stages = _pyramid(widths, (2, 2, deep, 2), layer, (_PATCH, merging), relative="bias")
        note = "28 M in the authors' repository" if name == "t" else _ROUNDED
        yield _family(f"swin-{name}", VisionTransformer(stages), parameters, macs, note)


def _twins() -> Found:
    """Chu et al. 2021, SVT: windows and sub-sampled attention in turn."""
    reductions = (8, 4, 2, 1)

    def layer(width: int, stage: int, number: int) -> Layer:
        heads = width // 32
        if number % 2 == 0:
            return Layer(Attention(heads, width, "window", 7))
        return Layer(_reduced(heads, width, reductions[stage]))

    widths, depths = (64, 128, 256, 512), (2, 2, 10, 4)
    stages = _pyramid(widths, depths, layer, (_PATCH, _HALF), "conditional")
    note = "printed without products of attention by its authors (2.8), with them by the survey"
    yield _family("twins-svt-s", VisionTransformer(stages), 24, 2.9, note)


def _cmt() -> Found:
    """Guo et al. 2022."""
    for name, width, stem, ratio, depths, side, parameters, macs in (
        ("ti", 46, 16, 360, (2, 2, 10, 2), 160, 9.5, 0.6),
        ("xs", 52, 16, 377, (3, 3, 12, 3), 192, 15.2, 1.5),
        ("s", 64, 32, 400, (3, 3, 16, 3), 224, 25.1, 4.0),
    ):

        def layer(width: int, stage: int, number: int, ratio: int = ratio) -> Layer:
            reduction = 8 >> stage
            kind: AttentionKind = "depthwise-reduction" if reduction > 1 else "global"
            attention = Attention(1 << stage, width, kind, reduction=reduction)
            return Layer(attention, FeedForward(ratio, "inverted-residual"), perception=True)

        widths = tuple(width << stage for stage in range(4))
        stages = _pyramid(widths, depths, layer, (_HALF, _HALF), relative="table")
        note = _ROUNDED if name != "s" else "the authors' code has 26.26 M parameters, not 25.1"
        architecture = VisionTransformer(stages, stem=stem, head=1280)
        yield _family(f"cmt-{name}", architecture, parameters, macs, note, side)


def _cvt() -> Found:
    """Wu et al. 2021."""
    entries = (Entry("conv", 7, 4, 2, norm=True), Entry("conv", 3, 2, 1, norm=True))

    def layer(width: int, stage: int, number: int) -> Layer:
        return Layer(Attention(width // 64, width, "projection", reduction=2, kernel=3))

    for name, depths, parameters, macs in (
        ("13", (1, 2, 10), 20, 4.5),
        ("21", (1, 4, 16), 32, 7.1),
    ):
        stages = _pyramid((64, 192, 384), depths, layer, entries)
        architecture = VisionTransformer(stages, 1, readout="class")
        yield _family(f"cvt-{name}", architecture, parameters, macs, _CUT)


def _autoformer() -> Found:
    """Chen et al. 2021: the subnets that its authors published; heads are 64 wide."""
    relative = "products with relative positions are counted here"
    notes = {
        "tiny": f"{relative}; the authors' repository prints 5.8 M",
        "small": f"{relative}; the printed 5.1 G are not those of the published configuration",
        "base": relative,
    }
    for name, width, heads, ratios, parameters, macs in (
        (
            "tiny",
            192,
            "3 3 3 3 3 3 3 3 3 3 4 3 3",
            "3.5 3.5 3 3.5 3 3 4 4 3.5 4 3.5 4 3.5",
            5.7,
            1.3,
        ),
        (
            "small",
            384,
            "6 6 5 7 5 5 5 6 6 7 7 6 7",
            "3 3.5 3 3.5 4 4 4 4 4 4 4 3.5 4",
            22.9,
            5.1,
        ),
        (
            "base",
            576,
            "9 9 9 9 9 10 9 9 10 9 10 9 9 10",
            "3.5 3.5 4 3.5 4 3.5 3.5 3 4 4 3 4 3 3.5",
            53.7,
            11,
        ),
    ):
        layers = tuple(
            Layer(Attention(int(number), 64 * int(number)), FeedForward(round(100 * float(ratio))))
            for number, ratio in zip(heads.split(), ratios.split(), strict=True)
        )
        stage = Stage(width, layers, positions="learned", relative="keys-values")
        architecture = VisionTransformer((stage,), 1)
        yield _family(f"autoformer-{name}", architecture, parameters, macs, notes[name])


def _pit() -> Found:
    """Heo et al. 2021: channels are heads by their width, class tokens pass every stage."""
    for name, head_width, heads, depths, patch, parameters, macs in (
        ("ti", 32, 2, (2, 6, 4), 16, 4.9, 0.7),
        ("xs", 48, 2, (2, 6, 4), 16, 10.6, 1.4),
        ("s", 48, 3, (2, 6, 4), 16, 23.5, 2.9),
        ("b", 64, 4, (3, 6, 4), 14, 73.8, 12.5),
    ):

        def layer(width: int, stage: int, number: int, heads: int = heads) -> Layer:
            return Layer(Attention(heads << stage, width))

        widths = tuple(head_width * heads << stage for stage in range(3))
        entries = (Entry("conv", patch, patch // 2), Entry("pooling", 3, 2, 1))
        first, *others = _pyramid(widths, depths, layer, entries)
        stages = (replace(first, positions="learned-map"), *others)
        architecture = VisionTransformer(stages, 1, "first", "class")
        notes = {
            "ti": "the authors' code has 4.85 M parameters",
            "b": "linear layers, convolutions and products make 12.40 G",
        }
        yield _family(f"pit-{name}", architecture, parameters, macs, notes.get(name, _ROUNDED))


def _pyramid(
    widths: Sequence[int],
    depths: Sequence[int],
    layer: Callable[[int, int, int], Layer],
    entries: tuple[Entry, Entry],
    positions: Positions = "none",
    relative: Relative = "none",
) -> tuple[Stage, ...]:
    """Return stages, the first with the first entry; ``layer`` of width, stage and number."""
    return tuple(
        Stage(
            width,
            tuple(layer(width, place, number) for number in range(depth)),
            entries[min(place, 1)],
            positions,
            relative,
        )
        for place, width, depth in zip(count(), widths, depths, strict=False)
    )


def _reduced(heads: int, width: int, reduction: int) -> Attention:
    if reduction == 1:
        return Attention(heads, width)
    return Attention(heads, width, "reduction", reduction=reduction)


def _family(
    name: str,
    architecture: VisionTransformer,
    parameters: float,
    macs: float,
    note: str = _ROUNDED,
    side: int = 224,
) -> Family[VisionTransformer]:
    return Family(name, architecture, (3, side, side), CLASSES, parameters, macs, note)
