"""Attention of every kind against loops over tokens, or plain layers of torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasplatform.spaces.vit.architecture import Attention, Layer, Stage
from nasplatform.spaces.vit.attention import make_attention
from nasplatform.spaces.vit.embedding import Performer
from nasplatform.spaces.vit.tokens import Grid

WIDTH = 12


def attention(grid, relative="none", **options):
    spec = Attention(**{"heads": 2, "width": 8, **options})
    stage = Stage(WIDTH, (Layer(spec),), relative=relative)
    torch.manual_seed(0)
    made = make_attention(spec, stage, grid, bias=True).eval()
    for weight in made.parameters():  # larger than at the start, so that a wrong table shows
        nn.init.normal_(weight, std=0.5)
    return made


def sequence(grid, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, grid.tokens + grid.places, WIDTH, generator=generator)


def by_loops(made, tokens, sees, bias=lambda head, i, j: 0.0, keys=None, vectors=None):
    """Attention token by token: those that it ``sees``, with a bias, or vectors of the pair."""
    keys = tokens if keys is None else keys
    q, k, v = made.query(tokens), made.key(keys), made.value(keys)
    width = q.shape[-1] // made.heads
    mixed = torch.zeros_like(q)
    for image in range(len(tokens)):
        for head in range(made.heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(tokens.shape[1]):
                seen = [j for j in range(keys.shape[1]) if sees(i, j)]
                key = k[image, seen, part]
                value = v[image, seen, part]
                if vectors is not None:
                    key = key + torch.stack([vectors[0](i, j) for j in seen])
                    value = value + torch.stack([vectors[1](i, j) for j in seen])
                products = key @ q[image, i, part] * made.scale
                products = products + torch.tensor([float(bias(head, i, j)) for j in seen])
                mixed[image, i, part] = products.softmax(0) @ value
    return made.project(mixed)


def test_global_attention_is_that_of_torch():
    grid = Grid(2, 3, 1)
    made = attention(grid, width=WIDTH)
    plain = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    with torch.no_grad():
        three = made.query, made.key, made.value
        plain.in_proj_weight.copy_(torch.cat([layer.weight for layer in three]))
        plain.in_proj_bias.copy_(torch.cat([layer.bias for layer in three]))
        plain.out_proj.load_state_dict(made.project.state_dict())
    tokens = sequence(grid)
    expected, _ = plain(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(made(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [Grid(4, 4), Grid(4, 6), Grid(5, 7)])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_that_do_not_wrap_around(grid, shifted):
    """Lines lie every 3 tokens, moved by 1 where shifted; who is between the same lines sees."""
    side, shift = 3, 1 if shifted else 0
    made = attention(grid, "bias", kind="window", window=side, shifted=shifted)

    def window(i):
        row, column = divmod(i, grid.width)
        return math.floor((row - shift) / side), math.floor((column - shift) / side)

    def bias(head, i, j):
        (row, column), (other_row, other_column) = divmod(i, grid.width), divmod(j, grid.width)
        place = (row - other_row + side - 1) * (2 * side - 1) + column - other_column + side - 1
        return made.offsets.table[place, head].item()

    tokens = sequence(grid)
    expected = by_loops(made, tokens, lambda i, j: window(i) == window(j), bias)
    torch.testing.assert_close(made(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [Grid(2, 3), Grid(3, 2, 1), Grid(1, 17, 2)])
def test_relative_vectors_laid_out_for_each_pair(grid):
    """Beyond 14 columns the vectors stay the same; a pair with a class token has its own."""
    made = attention(grid, "keys-values")

    def vectors(table):
        def of(i, j):
            if min(i, j) < grid.tokens:
                return table.rows[0] + table.columns[0]
            (row, column), (other_row, other_column) = (
                divmod(place - grid.tokens, grid.width) for place in (i, j)
            )
            down, right = (
                max(-14, min(14, offset)) + 15
                for offset in (other_row - row, other_column - column)
            )
            return table.rows[down] + table.columns[right]

        return of

    pair = vectors(made.beside_keys), vectors(made.beside_values)
    tokens = sequence(grid)
    expected = by_loops(made, tokens, lambda i, j: True, vectors=pair)
    torch.testing.assert_close(made(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["reduction", "depthwise-reduction"])
def test_keys_of_a_smaller_map(kind):
    """Class tokens stay keys; a row that does not fill a window is left out."""
    grid = Grid(4, 5, 1)
    made = attention(grid, kind=kind, reduction=2)
    tokens = sequence(grid)
    maps = tokens[:, 1:].transpose(1, 2).reshape(-1, WIDTH, 4, 5)
    conv = made.reduce.layer if kind == "reduction" else made.reduce.layer[0]
    groups = 1 if kind == "reduction" else WIDTH
    small = F.conv2d(maps, conv.weight, conv.bias, stride=2, groups=groups)
    if kind == "depthwise-reduction":
        small = made.reduce.layer[1](small)
    keys = torch.cat((tokens[:, :1], small.flatten(2).transpose(1, 2)), 1)
    assert keys.shape[1] == 1 + 2 * 2
    if kind == "reduction":
        keys = F.layer_norm(keys, (WIDTH,), made.norm.weight, made.norm.bias, 1e-6)
    expected = by_loops(made, tokens, lambda i, j: True, keys=keys)
    torch.testing.assert_close(made(tokens), expected, rtol=1e-4, atol=1e-5)


def test_table_that_a_stage_shares():
    grid = Grid(4, 4)
    made = attention(grid, "table", kind="depthwise-reduction", reduction=2)
    table, tokens = torch.randn(2, 16, 4), sequence(grid)
    keys = made.norm(made.reduce(tokens))
    expected = by_loops(
        made, tokens, lambda i, j: True, lambda head, i, j: table[head, i, j], keys=keys
    )
    torch.testing.assert_close(made(tokens, table), expected, rtol=1e-4, atol=1e-5)


def test_convolutional_projections():
    """Products are divided by the root of the whole width."""
    grid = Grid(4, 4, 1)
    made = attention(grid, kind="projection", kernel=3, reduction=2)
    tokens = sequence(grid)
    maps = tokens[:, 1:].transpose(1, 2).reshape(-1, WIDTH, 4, 4)

    def projected(layer, stride, linear):
        conv, norm = layer.layer
        made_maps = norm(F.conv2d(maps, conv.weight, None, stride, 1, groups=WIDTH))
        return linear(torch.cat((tokens[:, :1], made_maps.flatten(2).transpose(1, 2)), 1))

    q = projected(made.before_query, 1, made.query)
    k = projected(made.before_key, 2, made.key)
    v = projected(made.before_value, 2, made.value)
    q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in (q, k, v))
    mixed = (q @ k.transpose(2, 3) / math.sqrt(8)).softmax(-1) @ v
    expected = made.project(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(made(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("local", [1, 2])
def test_local_heads_convolve_their_values(local):
    grid = Grid(3, 4, 1)
    made = attention(grid, local=local, kernel=3)
    tokens = sequence(grid)
    values = made.value(tokens)
    seen = 8 - 4 * local
    maps = values[:, 1:, seen:].transpose(1, 2).reshape(-1, 4 * local, 3, 4)
    conv = made.local.layer
    near = F.conv2d(maps, conv.weight, conv.bias, padding=1, groups=4 * local)
    near = torch.cat((values[:, :1, seen:], near.flatten(2).transpose(1, 2)), 1)
    parts = [near]
    if local == 1:
        products = made.query(tokens) @ made.key(tokens).transpose(1, 2) / 2
        parts.insert(0, products.softmax(-1) @ values[..., :4])
    torch.testing.assert_close(
        made(tokens), made.project(torch.cat(parts, -1)), rtol=1e-4, atol=1e-5
    )


def test_performer_weighs_by_random_features():
    """The kernel of each pair, laid out; the features are orthogonal, of length sqrt(32)."""
    torch.manual_seed(0)
    made = Performer(9)
    tokens = torch.randn(1, 5, 9)

    def features(rows):
        terms = [torch.exp(rows @ w - (rows**2).sum(-1) / 2) / math.sqrt(32) for w in made.features]
        return torch.stack(terms, -1)

    weights = features(made.query(tokens)) @ features(made.key(tokens)).transpose(1, 2)
    values = made.value(tokens)
    expected = values + made.project(weights / (weights.sum(-1, keepdim=True) + 1e-8) @ values)
    torch.testing.assert_close(made(tokens), expected, rtol=1e-4, atol=1e-5)
    square = (made.features @ made.features.T / 32).abs()
    torch.testing.assert_close(square, torch.eye(32), rtol=0, atol=1e-5)
