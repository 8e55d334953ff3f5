"""Networks of visual transformers: equal to plain ones, trainable, checked, exported, refused."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformer_kinds import (
    CLASSES,
    DEPTHWISE,
    EVERY,
    LOCAL,
    PATCH,
    SHAPE,
    TWO,
    isotropic,
    windows,
)

from nasplatform.errors import ArchitectureError, NetworkError
from nasplatform.models.check import check_outputs, check_parameters, check_parts
from nasplatform.models.costs import count_parameters
from nasplatform.spaces.vit.architecture import (
    Attention,
    Entry,
    FeedForward,
    Inner,
    Layer,
    Stage,
    VisionTransformer,
)
from nasplatform.spaces.vit.blocks import DropPath
from nasplatform.spaces.vit.network import Network
from nasplatform.testing.tiny import tiny_task
from nasplatform.training.flops import count_macs


def built(name, shape=SHAPE):
    torch.manual_seed(0)
    return Network(EVERY[name], shape, CLASSES)


@pytest.mark.parametrize("name", EVERY)
def test_every_network_is_fit_for_a_pipeline(name):
    module, task = built(name), tiny_task()
    check_parts(module)
    check_parameters(module)
    check_outputs(module, task)
    assert count_macs(module, SHAPE) > 0
    with torch.no_grad():
        assert count_parameters(module, SHAPE) == sum(w.numel() for w in module.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_every_weight_is_trained(name):
    module = built(name).train()
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(module(images), torch.tensor([0, 1, 2, 0])).backward()
    for name_, weight in module.named_parameters():
        assert weight.grad is not None, name_
        assert weight.grad.isfinite().all(), name_
        assert weight.grad.abs().sum() > 0 or "key.bias" in name_, name_


@pytest.mark.parametrize("name", EVERY)
def test_every_network_is_exported(name):
    pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")
    from nasplatform.runtimes.onnx_graph import onnx_model
    from nasplatform.runtimes.onnx_runtime import OnnxSession

    module = built(name).eval()
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    session = OnnxSession(onnx_model(module, images[:1]).SerializeToString(), threads=1)
    with torch.no_grad():
        expected = module(images).numpy()
    assert session.run(images.numpy()) == pytest.approx(expected, abs=1e-5)
    assert session.run(images[:1].numpy()) == pytest.approx(expected[:1], abs=1e-5)


class PlainBlock(nn.Module):
    """A layer of DeiT or Swin, written as the papers do, with one matrix for q, k and v."""

    def __init__(self, block):
        super().__init__()
        self.block, self.heads = block, block.attention.heads
        three = block.attention.query, block.attention.key, block.attention.value
        self.weight = torch.cat([layer.weight for layer in three])
        self.bias = torch.cat([layer.bias for layer in three])

    def attend(self, x, mask=None):
        b, n, c = x.shape
        qkv = (x @ self.weight.T + self.bias).reshape(b, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        products = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        if mask is not None:
            products = products + mask
        mixed = (products.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)
        out = self.block.attention.project
        return mixed @ out.weight.T + out.bias

    def mlp(self, x):
        wide, narrow = self.block.feed_forward.widen, self.block.feed_forward.narrow
        hidden = F.gelu(x @ wide.weight.T + wide.bias)
        return hidden @ narrow.weight.T + narrow.bias

    def norm(self, x, which):
        return normed(x, getattr(self.block, which))


def normed(x, layer):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * layer.weight + layer.bias


@pytest.mark.parametrize("tokens", [1, 2])
def test_deit_is_the_plain_one(tokens):
    """Patches by reshaping; a class token, and the mean of two heads where it is distilled."""
    architecture = isotropic(
        3 * (Layer(Attention(3, 24)),), tokens, "class", Entry("conv", 8, 8), positions="learned"
    )
    (stage,) = architecture.stages
    architecture = replace(architecture, stages=(replace(stage, width=24),))
    torch.manual_seed(0)
    module = Network(architecture, (3, 32, 32), 5).eval()
    enlarge(module)
    images = torch.randn(2, 3, 32, 32)
    layers = module.stages[0]
    patches = images.reshape(2, 3, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).reshape(2, 16, -1)
    conv = layers.entry.conv
    x = patches @ conv.weight.flatten(1).T + conv.bias
    x = torch.cat((layers.first.expand(2, -1, -1), x), 1) + layers.positions.vectors
    for block in map(PlainBlock, layers.blocks):
        x = x + block.attend(block.norm(x, "attention_norm"))
        x = x + block.mlp(block.norm(x, "feed_forward_norm"))
    x = normed(x, module.norm)
    logits = [head(x[:, at]) for at, head in enumerate(module.classifiers)]
    expected = sum(logits) / len(logits)
    torch.testing.assert_close(module(images), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        module.classifier_logits(images)[-1], logits[-1], rtol=1e-3, atol=1e-4
    )


def test_swin_is_the_plain_one():
    """Rolled maps, a mask of -100 where regions meet, and merging by strided slices."""
    layers = [Layer(Attention(2, 8, "window", 4, shifted)) for shifted in (False, True)]
    last = Layer(Attention(4, 16, "window", 4))
    architecture = VisionTransformer(
        (
            Stage(8, tuple(layers), Entry("conv", 2, 2, norm=True), relative="bias"),
            Stage(16, (last,), Entry("merging", 2, 2), relative="bias"),
        )
    )
    torch.manual_seed(0)
    module = Network(architecture, (3, 16, 16), 5).eval()
    enlarge(module)
    images = torch.randn(2, 3, 16, 16)
    first, second = module.stages
    x = normed(first.entry.conv(images).permute(0, 2, 3, 1), first.entry.norm)
    x = swin_layer(x, first.blocks[0], shift=0)
    x = swin_layer(x, first.blocks[1], shift=2)
    slices = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    x = normed(torch.cat(slices, -1), second.entry.norm) @ second.entry.linear.weight.T
    x = swin_layer(x, second.blocks[0], shift=0)
    expected = module.classifiers[0](normed(x, module.norm).mean((1, 2)))
    torch.testing.assert_close(module(images), expected, rtol=1e-3, atol=1e-4)


def swin_layer(x, block, shift, side=4):
    plain, (b, h, w, c) = PlainBlock(block), x.shape
    offsets = torch.stack(
        torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    ).flatten(1)
    apart = (offsets[:, :, None] - offsets[:, None, :]) + side - 1
    bias = block.attention.offsets.table[apart[0] * (2 * side - 1) + apart[1]].permute(2, 0, 1)
    regions = torch.zeros(h, w)
    if shift:
        stretches = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
        for row, rows in enumerate(stretches):
            for column, columns in enumerate(stretches):
                regions[rows, columns] = 3 * row + column
    cut = regions.reshape(h // side, side, w // side, side).transpose(1, 2).reshape(-1, side**2)
    mask = torch.where(cut[:, :, None] == cut[:, None, :], 0.0, -100.0)
    y = torch.roll(plain.norm(x, "attention_norm"), (-shift, -shift), (1, 2))
    y = y.reshape(b, h // side, side, w // side, side, c).transpose(2, 3).reshape(-1, side**2, c)
    y = plain.attend(y, bias + mask.repeat(b, 1, 1)[:, None])
    y = y.reshape(b, h // side, w // side, side, side, c).transpose(2, 3).reshape(b, h, w, c)
    x = x + torch.roll(y, (shift, shift), (1, 2))
    return x + plain.mlp(plain.norm(x, "feed_forward_norm"))


def enlarge(module):
    """Make weights so large that attention is far from even, and every bias shows."""
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)


def test_drop_path_keeps_the_mean_and_drops_whole_images():
    torch.manual_seed(0)
    layer, ones = DropPath(0.25), torch.ones(4000, 2, 3)
    dropped = layer(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (dropped == dropped[:, :1, :1]).all()
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)
    assert torch.equal(layer.eval()(ones), ones)


def test_drop_path_rises_from_layer_to_layer():
    layers = 3 * (Layer(Attention(1, 8)),)
    module = Network(isotropic(layers, whole={"drop_path": 20}), SHAPE, CLASSES)
    shares = [one.share for one in module.modules() if isinstance(one, DropPath)]
    assert shares == pytest.approx([0.1, 0.1, 0.2, 0.2])


def test_images_of_another_size_are_refused():
    with pytest.raises(NetworkError, match=r"images are 1 x 9 x 8, .* input_shape 1 x 8 x 8"):
        built("autoformer")(torch.zeros(1, 1, 9, 8))


def layer_with(**attention):
    return isotropic((Layer(Attention(**{"heads": 2, "width": 8, **attention})),))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (layer_with(heads=3), r"stages\[0\]\.layers\[0\]\.attention\.heads is 3.*not divide.* 8"),
        (layer_with(heads=0), "heads is 0, expected at least 1"),
        (layer_with(kind="window", window=5), "window is 5, larger than the map of 4 x 4"),
        (layer_with(kind="window", window=4, shifted=True), "shifted: the window is the whole map"),
        (layer_with(window=2), "window is not of kind 'global'"),
        (layer_with(kind="reduction", reduction=5), "reduction is 5, larger than the map"),
        (layer_with(reduction=2), "reduction is not of kind 'global'"),
        (layer_with(kind="projection", kernel=2), "kernel is 2, expected an odd number"),
        (layer_with(kernel=3), "kernel is not of kind 'global'"),
        (layer_with(local=3, kernel=3), "local is 3, expected 0 to 2"),
        (layer_with(kind="reduction", reduction=2, local=1), "local: heads are local beside"),
        (layer_with(kind="fast"), "kind is 'fast', expected global, window"),
        (isotropic(entry=Entry("conv", 16, 16)), r"entry\.kernel is 16: .* 8 x 8 is smaller"),
        (isotropic(entry=Entry("merging", 9, 9)), r"entry\.stride is 9: .* smaller"),
        (isotropic(entry=Entry("performer", 3, 6)), "stride is 6, expected a power of two"),
        (isotropic(entry=Entry("conv", 2, 2, 2)), "padding is 2, expected 0 to 1"),
        (isotropic(entry=Entry("words", 7, 4, 3)), r"inner goes with entry kind 'words'"),
        (isotropic(entry=Entry("words", 7, 4, 3), inner=Inner(6, 4)), r"inner\.heads is 4"),
        (isotropic(entry=Entry("words", 7, 4, 3), inner=Inner(6, 2, 3)), r"inner\.stride is 3"),
        (isotropic(layers=()), "layers: there are none"),
        (isotropic(readout="class"), "readout is 'class', but tokens is 0"),
        (isotropic(tokens=3), "tokens is 3, expected 0 to 2"),
        (isotropic(tokens=1, relative="bias"), "relative is 'bias', which class tokens have none"),
        (isotropic(tokens=1, readout="class", whole={"head": 4}), "head is of the mean of the map"),
        (isotropic(positions="fourier"), "positions is 'fourier', expected none, learned"),
        (isotropic(whole={"norm": "sandwich"}), "norm is 'sandwich', expected pre, post"),
        (isotropic(whole={"drop_path": 100}), "drop_path is 100, expected 0 to 99"),
        (isotropic(relative="table"), "relative is 'table', which its layers share"),
        (isotropic((LOCAL,), relative="bias"), "without local heads, found local ones"),
        (isotropic((windows(False),), relative="keys-values"), "found window"),
        (isotropic((windows(False),), tokens=1), "kind is 'window', which class tokens cannot"),
        (isotropic((DEPTHWISE,), tokens=1), "'inverted-residual', which class tokens cannot pass"),
        (isotropic((Layer(Attention(2, 8), FeedForward(12)),)), "ratio is 12 hundredths"),
        (VisionTransformer(()), "stages: there are none"),
        (
            VisionTransformer((Stage(8, TWO, PATCH), Stage(12, TWO, Entry("pooling", 3, 2, 1)))),
            r"stages\[1\]\.width is 12, expected a multiple of the 8",
        ),
        (
            replace(EVERY["swin"], stages=(*EVERY["swin"].stages, EVERY["words"].stages[0])),
            "smaller than a patch",
        ),
    ],
)
def test_what_cannot_be_built_is_named_by_field(architecture, message):
    with pytest.raises(ArchitectureError, match=message):
        Network(architecture, SHAPE, CLASSES)
