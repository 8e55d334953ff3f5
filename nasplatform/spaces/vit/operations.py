"""What entries and layers of transformers mean, as operations with parts."""

from __future__ import annotations

from dataclasses import replace

from nasplatform.spaces.graph import Operation
from nasplatform.spaces.vit.architecture import Attention, Entry, FeedForwardKind, Positions

INPUT, IDENTITY = Operation("input", "input"), Operation("identity", "skip")
OUTPUT = Operation("output", "output")
_SHORTCUT_WINDOW = Operation("dwconv3x3", "conv", kernel=3, groups="depthwise", residual=True)
_QUERY_WINDOW = Operation("dwconv", "conv", kernel=3, groups="depthwise", normalised=True)
_MLP = Operation(
    "mlp", "mlp", nonlinear=True, normalised=True, norm="layer", activation="gelu", residual=True
)
_MLP_CONV = Operation(
    "mlp-conv",
    "block",
    kernel=3,
    residual=True,
    parts=(
        Operation("linear", "mlp", normalised=True, norm="layer"),
        Operation(
            "dwconv3x3", "conv", kernel=3, groups="depthwise", nonlinear=True, activation="gelu"
        ),
    ),
)
_INVERTED = Operation(
    "inverted-residual",
    "block",
    kernel=3,
    residual=True,
    parts=(
        Operation("conv1x1", "conv", kernel=1, nonlinear=True, normalised=True, activation="gelu"),
        Operation(
            "dwconv3x3",
            "conv",
            kernel=3,
            groups="depthwise",
            nonlinear=True,
            normalised=True,
            activation="gelu",
        ),
        Operation("conv1x1", "conv", kernel=1, normalised=True),
    ),
)
_FEED_FORWARDS = {"mlp": _MLP, "mlp-conv": _MLP_CONV, "inverted-residual": _INVERTED}


def entry_operation(entry: Entry, positions: Positions) -> Operation:
    """Return the operation of an entry, conditional positions behind it."""
    kernel = entry.stride if entry.kind == "merging" else entry.kernel
    told = "" if positions == "none" else f"-{positions}"
    made = Operation(
        f"{entry.kind}{kernel}s{entry.stride}{told}",
        "embed",
        kernel=kernel,
        stride=entry.stride,
        groups="depthwise" if entry.kind == "pooling" else "full",
        normalised=entry.norm,
        norm="layer",
    )
    if positions != "conditional":
        return made
    return replace(made, parts=(made, _SHORTCUT_WINDOW))


def layer_operation(
    attention: Attention, feed_forward: FeedForwardKind, perception: bool
) -> Operation:
    """Return the operation of a layer; its reduction, heads and widths are attributes."""
    mixing = _attention(attention)
    fed = _FEED_FORWARDS[feed_forward]
    seen = (_SHORTCUT_WINDOW,) if perception else ()
    return Operation(
        ("lpu-" if perception else "") + f"{mixing.name}-{fed.name}",
        "block",
        kernel=max(attention.window, attention.kernel, fed.kernel, 3 * perception),
        nonlinear=True,
        normalised=True,
        parts=(*seen, mixing, fed),
    )


def _attention(attention: Attention) -> Operation:
    kind = attention.kind
    side = attention.window or attention.kernel or ""
    name = ("shifted" if attention.shifted else kind) + str(side)
    made = Operation(
        name, "attention", kernel=attention.window, normalised=True, norm="layer", residual=True
    )
    if kind != "projection":
        return made
    window = replace(_QUERY_WINDOW, kernel=attention.kernel)
    plain = replace(made, residual=False)
    return Operation(name, "block", kernel=attention.kernel, residual=True, parts=(window, plain))
