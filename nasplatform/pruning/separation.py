"""Attention of torch with layers of its own for queries, keys and values, so that it can be cut.

``nn.MultiheadAttention`` holds the three projections in one matrix, and its code wants as many
channels as it was made for. It is replaced by a module that computes the same. The replacement is
registered as the edit ``attention-separated``, version 1.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.errors import StageError
from nasplatform.models.edits import Edit
from nasplatform.models.network import Network

KIND, VERSION = "attention-separated", 1


def separated(network: Network) -> Network:
    """Return a network whose attention of torch can be cut; the same one where it has none."""
    names = [name for name, child in network.module.named_modules() if _can_be_separated(child)]
    if not names:
        return network
    module = separate(copy.deepcopy(network.module), {"layers": names})
    return network.edited(module, Edit(KIND, VERSION, {"layers": names}))


def separate(module: nn.Module, payload: Mapping[str, Any]) -> nn.Module:
    """Replace the attention of torch by these names, ``layers``, in place; return the module.

    Raises StageError where a name is not one of attention that can be replaced.
    """
    made: dict[int, SeparateAttention] = {}
    for name in payload["layers"]:
        try:
            attention = module.get_submodule(name)
        except AttributeError:
            attention = None
        if not _can_be_separated(attention):
            raise StageError(f"layer {name!r} is no attention that can be separated")
        made[id(attention)] = SeparateAttention(attention)
    if id(module) in made:
        return made[id(module)]
    for child in list(module.modules()):
        for name, own in list(child.named_children()):
            if id(own) in made:
                setattr(child, name, made[id(own)])
    return module


def _can_be_separated(module: nn.Module | None) -> TypeGuard[nn.MultiheadAttention]:
    if not isinstance(module, nn.MultiheadAttention) or type(module) is not nn.MultiheadAttention:
        return False
    return module.bias_k is None and not module.add_zero_attn


class SeparateAttention(nn.Module):
    """What ``nn.MultiheadAttention`` computes, with the arguments of its ``forward``."""

    in_proj_bias = None  # by which encoder layers of torch see that they must compute step by step
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, float(attention.head_dim**-0.5)
        self.batch_first, self.dropout = attention.batch_first, attention.dropout
        if attention.in_proj_weight is None:
            weights = [getattr(attention, f"{letter}_proj_weight") for letter in "qkv"]
        else:
            weights = list(attention.in_proj_weight.chunk(3))
        bias = attention.in_proj_bias
        biases = [None] * 3 if bias is None else list(bias.chunk(3))
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.out_proj = attention.out_proj
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the attention, and its weights where they are asked for.

        ``is_causal`` is a hint beside ``attn_mask``, as in torch.
        """
        single, batch = query.dim() == 2, 0 if self.batch_first else 1
        given = [t.unsqueeze(batch) if single else t for t in (query, key, value)]
        if not self.batch_first:
            given = [t.transpose(0, 1) for t in given]
        layers = self.query, self.key, self.value
        q, k, v = (self._split(layer(t)) for layer, t in zip(layers, given, strict=True))
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            products = q @ k.transpose(-2, -1) * self.scale
            weights = (products if mask is None else products + mask).softmax(-1)
            weights = functional.dropout(weights, dropout)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights.squeeze(0) if single else weights
        else:
            mixed = functional.scaled_dot_product_attention(
                q, k, v, mask, dropout, scale=self.scale
            )
        made = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if single:
            made = made.squeeze(0)
        elif not self.batch_first:
            made = made.transpose(0, 1)
        return made, weights

    def _split(self, channels: Tensor) -> Tensor:
        """(B, T, C) -> (B, heads, T, C / heads)."""
        return torch.unflatten(channels, -1, (self.num_heads, -1)).transpose(1, 2)

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Return what is added to the products, (B or 1, heads or 1, T or 1, S)."""
        found = None
        if attn_mask is not None:
            found = _added(attn_mask, q)
            if found.dim() == 3:
                found = torch.unflatten(found, 0, (-1, self.num_heads))
        if padding is not None:
            own = _added(padding, q).reshape(-1, 1, 1, padding.shape[-1])
            found = own if found is None else found + own
        return found


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return made
