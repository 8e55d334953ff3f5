"""Small visual transformers of every kind that the space ``vit`` has, for 8 x 8 images."""

from dataclasses import replace

from nasplatform.spaces.vit.architecture import (
    Attention,
    Entry,
    FeedForward,
    Inner,
    Layer,
    Stage,
    VisionTransformer,
)

SHAPE, CLASSES = (1, 8, 8), 3
PATCH = Entry("conv", 2, 2)
TWO = (Layer(Attention(2, 8)), Layer(Attention(1, 8), FeedForward(150)))


def isotropic(layers=TWO, tokens=0, readout="average", entry=PATCH, whole=None, **stage):
    return VisionTransformer(
        (Stage(8, layers, entry, **stage),), tokens, "last", readout, **whole or {}
    )


def pyramid(first, second, merging=PATCH, relative="none", **whole):
    stages = (
        Stage(8, (first, first), PATCH, relative=relative),
        Stage(12, (second,), merging, relative=relative),
    )
    return VisionTransformer(stages, **whole)


def windows(shifted):
    return Layer(Attention(2, 8, "window", 2, shifted))


SPATIAL = Layer(Attention(2, 8, "reduction", reduction=2), FeedForward(200, "mlp-conv"))
DEPTHWISE = Layer(
    Attention(2, 8, "depthwise-reduction", reduction=2),
    FeedForward(200, "inverted-residual"),
    perception=True,
)
CONVOLVED = Layer(Attention(2, 8, "projection", reduction=2, kernel=3))
LOCAL = Layer(Attention(2, 8, local=1, kernel=3))
EVERY = {
    "class": isotropic(tokens=1, readout="class", positions="learned"),
    "distilled": isotropic(tokens=2, readout="class", positions="sinusoid"),
    "conditional": isotropic(tokens=1, readout="class", positions="conditional"),
    "autoformer": isotropic(tokens=1, positions="learned", relative="keys-values"),
    "bias": isotropic(relative="bias", whole={"norm": "post", "layer_scale": True}),
    "local": isotropic((LOCAL, replace(LOCAL, perception=True)), tokens=1),
    "performer": isotropic(entry=Entry("performer", 3, 4, 1), whole={"qkv_bias": False}),
    "transformer": isotropic(entry=Entry("transformer", 3, 4, 1), tokens=1, readout="class"),
    "words": isotropic(
        tokens=1, readout="class", entry=Entry("words", 7, 4, 3), inner=Inner(6, 2, 2)
    ),
    "words without tokens": isotropic(
        entry=Entry("words", 7, 4, 3), inner=Inner(6, 2, 2), positions="conditional"
    ),
    "swin": pyramid(windows(True), windows(False), Entry("merging", 2, 2), "bias"),
    "merging that fills up": pyramid(windows(False), windows(False), Entry("merging", 3, 3)),
    "pvt": pyramid(SPATIAL, SPATIAL, tokens=1),
    "cmt": pyramid(
        DEPTHWISE, replace(DEPTHWISE, attention=Attention(4, 8)), relative="table", head=9
    ),
    "stem": VisionTransformer((Stage(8, TWO, PATCH),), stem=5, drop_path=20),
    "cvt": pyramid(CONVOLVED, CONVOLVED, Entry("conv", 3, 2, 1, norm=True), tokens=1),
    "pit": VisionTransformer(
        (Stage(8, TWO, PATCH, "learned"), Stage(16, TWO, Entry("pooling", 3, 2, 1))),
        tokens=2,
        tokens_from="first",
        readout="class",
    ),
}
