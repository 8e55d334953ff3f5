"""What is no visual transformer, named by field; and the sizes of the maps of one that is."""

from __future__ import annotations

from typing import Any, get_args

from nasplatform.errors import ArchitectureError
from nasplatform.spaces.vit.architecture import (
    Attention,
    AttentionKind,
    Entry,
    EntryKind,
    FeedForwardKind,
    Inner,
    Norm,
    Place,
    Positions,
    Readout,
    Relative,
    Stage,
    VisionTransformer,
)

Side = tuple[int, int]
SOFT_SPLIT = ("performer", "transformer")
_NORMALISED_MAPS = ("depthwise-reduction", "projection")


def validate(architecture: VisionTransformer, input_shape: tuple[int, int, int]) -> None:
    """Raise ArchitectureError, which names the field, unless it can be built for such images."""
    _choice("readout", architecture.readout, Readout)
    _choice("norm", architecture.norm, Norm)
    _choice("tokens_from", architecture.tokens_from, Place)
    _between("tokens", architecture.tokens, 0, 2)
    _between("drop_path", architecture.drop_path, 0, 99)
    for name in ("stem", "head"):
        _least(name, getattr(architecture, name), 0)
    if not architecture.stages:
        raise ArchitectureError("stages: there are none, expected at least one")
    if architecture.readout == "class" and not architecture.tokens:
        raise ArchitectureError("readout is 'class', but tokens is 0: expected 1 or 2")
    if architecture.readout == "class" and architecture.head:
        raise ArchitectureError("head is of the mean of the map: expected readout 'average'")
    colours, maps = input_shape[0], sides(architecture, input_shape)
    for place, (stage, side) in enumerate(zip(architecture.stages, maps, strict=True)):
        _stage(f"stages[{place}]", stage, side, architecture.tokens_in(place))
        before = architecture.stages[place - 1].width if place else architecture.stem or colours
        if stage.entry.kind == "pooling" and stage.width % before:
            raise ArchitectureError(
                f"stages[{place}].width is {stage.width}, expected a multiple of the {before} "
                f"channels that are pooled"
            )
        if stage.inner is not None and place:
            raise ArchitectureError(f"stages[{place}].inner: words are of the first stage only")


def sides(architecture: VisionTransformer, input_shape: tuple[int, int, int]) -> list[Side]:
    """Return height and width of the map of each stage.

    Raises ArchitectureError for an image, or a map, that is smaller than the patch of an entry.
    """
    side: Side = (input_shape[1], input_shape[2])
    if architecture.stem:
        side = (-(-side[0] // 2), -(-side[1] // 2))
    found = []
    for place, stage in enumerate(architecture.stages):
        where = f"stages[{place}].entry"
        _entry(where, stage.entry, side)
        side = (_after(stage.entry, side[0]), _after(stage.entry, side[1]))
        found.append(side)
    return found


def soft_splits(stride: int) -> tuple[int, ...]:
    """Return the strides of the unfoldings of tokens-to-token: 16 -> 4, 2, 2; windows overlap."""
    return {2: (2,), 4: (2, 2)}.get(stride, (stride // 4, 2, 2))


def unfolded(side: int, step: int) -> int:
    """Return how many windows of 2 step - 1 fit along a side that is filled up by step / 2."""
    return (side + 2 * (step // 2) - (2 * step - 1)) // step + 1


def _after(entry: Entry, side: int) -> int:
    """Return the side of the map that an entry makes."""
    if entry.kind in ("conv", "pooling"):
        return (side + 2 * entry.padding - entry.kernel) // entry.stride + 1
    if entry.kind == "words":
        return side // entry.stride
    if entry.kind == "merging":
        return -(-side // entry.stride)
    for step in soft_splits(entry.stride):
        side = unfolded(side, step)
    return side


def _entry(where: str, entry: Entry, side: Side) -> None:
    _choice(f"{where}.kind", entry.kind, EntryKind)
    _least(f"{where}.stride", entry.stride, 1)
    patch = entry.stride
    if entry.kind in ("conv", "pooling"):
        _least(f"{where}.kernel", entry.kernel, 1)
        _between(f"{where}.padding", entry.padding, 0, entry.kernel - 1)
        patch = max(1, entry.kernel - 2 * entry.padding)
        field, given = f"{where}.kernel", entry.kernel
    else:
        field, given = f"{where}.stride", entry.stride
    if entry.kind in SOFT_SPLIT and (entry.stride < 2 or entry.stride & (entry.stride - 1)):
        raise ArchitectureError(f"{field} is {given}, expected a power of two from 2")
    if min(side) < patch:
        raise ArchitectureError(
            f"{field} is {given}: the image or map of {side[0]} x {side[1]} is smaller than a patch"
        )


def _stage(where: str, stage: Stage, side: Side, tokens: int) -> None:
    _least(f"{where}.width", stage.width, 1)
    _choice(f"{where}.positions", stage.positions, Positions)
    _choice(f"{where}.relative", stage.relative, Relative)
    if not stage.layers:
        raise ArchitectureError(f"{where}.layers: there are none, expected at least one")
    if (stage.inner is None) == (stage.entry.kind == "words"):
        raise ArchitectureError(f"{where}.inner goes with entry kind 'words', and the other way")
    if stage.inner is not None:
        _inner(where, stage.inner, stage.entry)
    if stage.positions == "sinusoid" and stage.width % 2:
        raise ArchitectureError(f"{where}.width is {stage.width}: sinusoids need an even one")
    for number, layer in enumerate(stage.layers):
        inside = f"{where}.layers[{number}]"
        _attention(f"{inside}.attention", layer.attention, side, tokens)
        _choice(f"{inside}.feed_forward.kind", layer.feed_forward.kind, FeedForwardKind)
        if layer.feed_forward.kind == "inverted-residual" and tokens:
            raise ArchitectureError(
                f"{inside}.feed_forward.kind is 'inverted-residual', which class tokens cannot "
                f"pass: expected tokens 0 there"
            )
        if layer.feed_forward.hidden(stage.width) < 1:
            raise ArchitectureError(
                f"{inside}.feed_forward.ratio is {layer.feed_forward.ratio} hundredths: no hidden "
                f"unit is left of width {stage.width}"
            )
    _relative(where, stage, tokens)


def _inner(where: str, inner: Inner, entry: Entry) -> None:
    for name in ("width", "heads", "stride"):
        _least(f"{where}.inner.{name}", getattr(inner, name), 1)
    _divides(f"{where}.inner.heads", inner.heads, "width", inner.width)
    _divides(f"{where}.inner.stride", inner.stride, "entry.stride", entry.stride)


def _attention(where: str, attention: Attention, side: Side, tokens: int) -> None:
    _choice(f"{where}.kind", attention.kind, AttentionKind)
    for name in ("heads", "width", "reduction"):
        _least(f"{where}.{name}", getattr(attention, name), 1)
    _divides(f"{where}.heads", attention.heads, "width", attention.width)
    _between(f"{where}.local", attention.local, 0, attention.heads)
    if attention.local and attention.kind != "global":
        raise ArchitectureError(f"{where}.local: heads are local beside 'global' ones only")
    _window(where, attention, side, tokens)
    if attention.kind in ("reduction", *_NORMALISED_MAPS):
        if attention.reduction > min(side):
            raise ArchitectureError(
                f"{where}.reduction is {attention.reduction}, larger than the map of "
                f"{side[0]} x {side[1]}"
            )
    elif attention.reduction != 1:
        raise ArchitectureError(f"{where}.reduction is not of kind {attention.kind!r}: expected 1")
    if attention.local or attention.kind == "projection":
        if attention.kernel < 1 or attention.kernel % 2 == 0:
            raise ArchitectureError(f"{where}.kernel is {attention.kernel}, expected an odd number")
    elif attention.kernel:
        raise ArchitectureError(f"{where}.kernel is not of kind {attention.kind!r}: expected 0")


def _window(where: str, attention: Attention, side: Side, tokens: int) -> None:
    if attention.kind != "window":
        if attention.window or attention.shifted:
            raise ArchitectureError(
                f"{where}.window is not of kind {attention.kind!r}: expected 0, not shifted"
            )
        return
    _least(f"{where}.window", attention.window, 1)
    if attention.window > min(side):
        raise ArchitectureError(
            f"{where}.window is {attention.window}, larger than the map of {side[0]} x {side[1]}"
        )
    if attention.shifted and attention.window == min(side):
        raise ArchitectureError(
            f"{where}.shifted: the window is the whole map of {side[0]} x {side[1]}, expected False"
        )
    if tokens:
        raise ArchitectureError(
            f"{where}.kind is 'window', which class tokens cannot join: expected tokens 0 there"
        )


def _relative(where: str, stage: Stage, tokens: int) -> None:
    """Refuse relative positions that the attention of a stage cannot have."""
    kinds = {
        "bias": ("global", "window"),
        "table": ("global", "depthwise-reduction", "reduction"),
        "keys-values": ("global",),
    }.get(stage.relative)
    if kinds is None:
        return
    attentions = [layer.attention for layer in stage.layers]
    wrong = [attention.kind for attention in attentions if attention.kind not in kinds]
    if wrong or any(attention.local for attention in attentions):
        raise ArchitectureError(
            f"{where}.relative is {stage.relative!r}, expected attention of kind "
            f"{' or '.join(kinds)} without local heads, found {wrong[0] if wrong else 'local ones'}"
        )
    if tokens and stage.relative != "keys-values":
        raise ArchitectureError(
            f"{where}.relative is {stage.relative!r}, which class tokens have none of: expected "
            f"tokens 0 there"
        )
    if stage.relative == "table" and len({(a.heads, a.reduction) for a in attentions}) > 1:
        raise ArchitectureError(
            f"{where}.relative is 'table', which its layers share: expected the same heads and "
            f"reduction in each"
        )


def _choice(field: str, given: str, kind: Any) -> None:
    known: tuple[str, ...] = get_args(kind)
    if given not in known:
        raise ArchitectureError(f"{field} is {given!r}, expected {', '.join(known)}")


def _least(field: str, given: int, least: int) -> None:
    if given < least:
        raise ArchitectureError(f"{field} is {given}, expected at least {least}")


def _between(field: str, given: int, least: int, most: int) -> None:
    if not least <= given <= most:
        raise ArchitectureError(f"{field} is {given}, expected {least} to {most}")


def _divides(field: str, given: int, what: str, whole: int) -> None:
    if whole % given:
        raise ArchitectureError(f"{field} is {given}, which does not divide {what} {whole}")
