"""Visual transformers as values: stages of layers over a map of tokens.

A stage makes its tokens of the image or of the map before it (``Entry``), then applies its layers,
each of them attention and a feed-forward part around a residual stream of ``Stage.width``
channels. One stage is the isotropic layout of ViT and DeiT, several are a pyramid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import md5
from typing import Literal

EntryKind = Literal["conv", "merging", "pooling", "performer", "transformer", "words"]
AttentionKind = Literal["global", "window", "reduction", "depthwise-reduction", "projection"]
FeedForwardKind = Literal["mlp", "mlp-conv", "inverted-residual"]
Positions = Literal["none", "learned", "sinusoid", "conditional", "learned-map"]
Relative = Literal["none", "bias", "table", "keys-values"]
Readout = Literal["class", "average"]
Norm = Literal["pre", "post"]
Place = Literal["first", "last"]


@dataclass(frozen=True)
class Entry:
    """How a stage's tokens are made.

    conv:        convolution, such as the patches of ViT (kernel = stride), those of CvT that
                 overlap, and the embeddings between the stages of PVT.
    merging:     stride x stride tokens side by side, LayerNorm, linear without bias (Swin).
    pooling:     depthwise convolution (PiT); class tokens pass a linear layer.
    performer, transformer: tokens-to-token (T2T-ViT, section 3.1): windows of tokens are unfolded,
                 and pass a layer of that attention, until the map is ``stride`` times smaller. The
                 last two unfoldings are 3x3 of stride 2, the first takes what is left
                 (7x7 of stride 4 for 16). ``kernel`` and ``padding`` are not read.
    words:       a convolution makes words, which are put together to patches of ``stride`` pixels
                 (TNT); the stage has an ``inner``.

    kernel, stride, padding: of the convolution, in pixels or tokens of the map before.
    norm:   LayerNorm behind a convolution.
    """

    kind: EntryKind = "conv"
    kernel: int = 16
    stride: int = 16
    padding: int = 0
    norm: bool = False


@dataclass(frozen=True)
class Attention:
    """Multi-head attention; every kind may have any width that its heads divide.

    global:     all tokens see all (ViT).
    window:     tokens see those of their window; ``shifted`` by half a window (Swin), or not
                (the local part of Twins).
    reduction:  keys and values of a map ``reduction`` times smaller, made by a convolution and
                LayerNorm (PVT, the global part of Twins).
    depthwise-reduction: the same by a depthwise convolution and batch normalisation (CMT).
    projection: depthwise convolution of side ``kernel`` and batch normalisation before queries,
                keys and values; of stride ``reduction`` for the latter two (CvT).

    width: channels of queries, of keys and of values, over all heads.
    local: how many of the heads of ``global`` attention are none: their values are convolved over
           the map, depthwise with side ``kernel``, and have no queries and keys (after GLiT).
    """

    heads: int
    width: int
    kind: AttentionKind = "global"
    window: int = 0
    shifted: bool = False
    reduction: int = 1
    kernel: int = 0
    local: int = 0

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads


@dataclass(frozen=True)
class FeedForward:
    """The part that works on each token.

    mlp:       linear, GELU, linear.
    mlp-conv:  linear, depthwise 3x3, GELU, linear (LocalViT, PVTv2).
    inverted-residual: 1x1, depthwise 3x3 with a shortcut and 1x1 convolutions, each with batch
               normalisation (CMT).

    ratio: hidden units by channels of the stage, in hundredths: 400 is 4.
    """

    ratio: int = 400
    kind: FeedForwardKind = "mlp"

    def hidden(self, width: int) -> int:
        """Hidden units in a stage of ``width`` channels, rounded down."""
        return width * self.ratio // 100


@dataclass(frozen=True)
class Layer:
    """Attention and feed-forward part; ``perception`` puts CMT's local perception unit before."""

    attention: Attention
    feed_forward: FeedForward = FeedForward()
    perception: bool = False


@dataclass(frozen=True)
class Inner:
    """The inner transformer of TNT over the words of each patch, before every layer.

    width, heads: of the words; stride: pixels from word to word, a divisor of the entry's stride.
    """

    width: int
    heads: int
    stride: int = 4


@dataclass(frozen=True)
class Stage:
    """Layers on one map of tokens.

    width:     channels of the tokens.
    positions: added to the tokens of the stage, ``learned-map`` to those of the image only (PiT);
               ``conditional`` is a depthwise 3x3 convolution behind the first layer (CPVT's PEG).
    relative:  of attention. ``bias``: a table of offsets for each layer and head (Swin);
               ``table``: a free number for each query, key and head, shared by the layers of the
               stage (CMT); ``keys-values``: vectors for offsets of up to 14 rows and columns,
               added to keys and values (AutoFormer).
    """

    width: int
    layers: tuple[Layer, ...]
    entry: Entry = Entry()
    positions: Positions = "none"
    relative: Relative = "none"
    inner: Inner | None = None


@dataclass(frozen=True)
class VisionTransformer:
    """One architecture.

    stages:      in order, the first of the image.
    tokens:      0, 1 (class) or 2 (class and distillation) beside those of the image.
    tokens_from: the stage in which they join.
    readout:     ``class``: the linear classifier reads the tokens, one classifier for each, of
                 which the logits are averaged (DeiT); ``average``: it reads the mean of the map.
    stem:        channels of three 3x3 convolutions, the first of stride 2, before the first entry
                 (CMT); 0 for none.
    head:        units of a 1x1 convolution with batch normalisation and swish in place of the
                 last LayerNorm (CMT); 0 for none.
    norm:        LayerNorm before each part (``pre``) or behind its residual sum (``post``).
    qkv_bias:    whether queries, keys and values have a bias.
    layer_scale: a learned factor for each channel of a residual branch (CaiT).
    drop_path:   share of residual branches dropped in training in the last layer, in hundredths,
                 rising linearly from 0 in the first.
    """

    stages: tuple[Stage, ...]
    tokens: int = 0
    tokens_from: Place = "last"
    readout: Readout = "average"
    stem: int = 0
    head: int = 0
    norm: Norm = "pre"
    qkv_bias: bool = True
    layer_scale: bool = False
    drop_path: int = 0

    @cached_property
    def hash(self) -> str:
        """The md5 of all that the value says."""
        return md5(repr(self).encode(), usedforsecurity=False).hexdigest()

    @property
    def depth(self) -> int:
        """Layers of all stages."""
        return sum(len(stage.layers) for stage in self.stages)

    def tokens_in(self, stage: int) -> int:
        """Class and distillation tokens among those of a stage, counted from 0."""
        joined = self.tokens_from == "first" or stage == len(self.stages) - 1
        return self.tokens if joined else 0
