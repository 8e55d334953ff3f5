"""Recurrent layers and attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import CLASSES, Net, conv, head, kind, unit

recurrent, attention = kind("recurrent"), kind("attention")


def over_rows(layer: nn.Module, width: int) -> nn.Module:
    """Convolutions, a recurrent layer over the rows, and a classifier with one hidden layer."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x)
        rows = x.permute(0, 2, 1, 3).flatten(2)
        return self.linear(self.layer(rows)[0][:, -1])

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10), unit(10, 4))
    linear = nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, CLASSES))
    return Net(compute, body=body, layer=layer, linear=linear)


@recurrent(pins="'layer' (GRU)")
def gru() -> nn.Module:
    return over_rows(nn.GRU(32, 10, batch_first=True), 10)


@recurrent(pins="'layer' (LSTM)")
def lstm_both_ways() -> nn.Module:
    return over_rows(nn.LSTM(32, 6, batch_first=True, bidirectional=True), 12)


@recurrent(pins="'layer' (RNN)")
def elman() -> nn.Module:
    return over_rows(nn.RNN(32, 8, num_layers=2, batch_first=True), 8)


@recurrent(pins="(LSTMCell)")
def cell_by_cell() -> nn.Module:
    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x).mean(3)
        hidden, memory = x.new_zeros(len(x), 10), x.new_zeros(len(x), 10)
        for row in x.unbind(2):
            hidden, memory = self.cell(row, (hidden, memory))
        return self.linear(hidden)

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10), unit(10, 6))
    return Net(compute, body=body, cell=nn.LSTMCell(6, 10), linear=nn.Linear(10, CLASSES))


@recurrent(pins="(GRU)")
def recurrent_only() -> nn.Module:
    """Rows of the image straight into the recurrent layer; linear layers remain."""

    def compute(self, x: Tensor) -> Tensor:
        made, _ = self.layer(self.first(x.permute(0, 2, 1, 3).flatten(2)))
        return self.linear(made.mean(1))

    linear = nn.Sequential(nn.Linear(10, 14), nn.ReLU(), nn.Linear(14, CLASSES))
    first = nn.Sequential(nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 12))
    return Net(compute, first=first, layer=nn.GRU(12, 10, batch_first=True), linear=linear)


@recurrent()
def recurrence_by_hand() -> nn.Module:
    """A cell of linear layers, written out."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x).mean(3)
        state = torch.zeros_like(self.feed(x[:, :, 0]))
        for i in range(x.shape[2]):
            state = torch.tanh(self.feed(x[:, :, i]) + self.back(state))
        return self.linear(state)

    body = nn.Sequential(unit(3, 8, 3, 4), unit(8, 10))
    parts = {"feed": nn.Linear(10, 12), "back": nn.Linear(12, 12), "linear": nn.Linear(12, CLASSES)}
    return Net(compute, body=body, **parts)


def tokens(module: nn.Module, width: int = 12) -> nn.Module:
    """Patches as tokens with places, a class token, and what is made of them."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.places
        return self.linear(self.norm(self.module(x))[:, 0])

    token, places = torch.zeros(1, 1, width), torch.randn(1, 17, width) / 10
    parts = {"patch": nn.Conv2d(3, width, 4, 4), "token": nn.Parameter(token)}
    more = {"places": nn.Parameter(places), "norm": nn.LayerNorm(width)}
    return Net(compute, **parts, **more, module=module, linear=nn.Linear(width, CLASSES))


class Attention(nn.Module):
    """One projection for queries, keys and values, as timm and ViT write it."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        images, count, width = x.shape
        qkv = self.qkv(x).reshape(images, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(images, count, width))


class Block(nn.Module):
    def __init__(self, attention: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(width, 30), nn.GELU(), nn.Linear(30, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@attention(pins="fewer channels")
def vision_transformer() -> nn.Module:
    return tokens(nn.Sequential(Block(Attention(12, 3, True)), Block(Attention(12, 3, False))))


@attention()
def torch_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 2, 24, 0.0, batch_first=True, norm_first=True)
    return tokens(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


@attention()
def multihead() -> nn.Module:
    layer = nn.MultiheadAttention(12, 2, batch_first=True)
    return tokens(Block(Net(lambda self, x: self.layer(x, x, x)[0], layer=layer)))


@attention()
def non_local() -> nn.Module:
    """Attention between the places of a map, by 1 x 1 convolutions."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        share = torch.softmax(q.transpose(1, 2) @ k, dim=-1)
        made = (v @ share.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return self.head(self.last(x + self.out(made)))

    parts = {name: conv(8, 6, 1) for name in "qkv"}
    more = {"out": conv(6, 8, 1), "last": unit(8, 10), "head": head(10)}
    return Net(compute, stem=unit(3, 8, 3, 4), **parts, **more)


@attention()
def attention_pooling() -> nn.Module:
    """One learned query looks at all places."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2).transpose(1, 2)
        made, _ = self.pool(self.query.expand(len(x), -1, -1), x, x)
        return self.linear(made[:, 0])

    body = nn.Sequential(unit(3, 8, 3, 2), unit(8, 10), unit(10, 8))
    parts = {"query": nn.Parameter(torch.randn(1, 1, 8)), "linear": nn.Linear(8, CLASSES)}
    return Net(compute, body=body, pool=nn.MultiheadAttention(8, 2, batch_first=True), **parts)


@attention(pins="'_softmax'")
def linear_attention() -> nn.Module:
    """Keys and values first, by einsum."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.q(x).softmax(-1), self.k(x).softmax(1), self.v(x)
        made = torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k, v))
        return self.linear(functional.relu(self.wide(x + self.out(made))).mean(1))

    parts = {name: nn.Linear(8, 8) for name in ("q", "k", "v", "out")}
    more = {"wide": nn.Linear(8, 16), "linear": nn.Linear(16, CLASSES)}
    return Net(compute, stem=unit(3, 8, 3, 4), **parts, **more)
