"""SCOP's score of a channel."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from nasplatform.pruning.graph import ChannelGraph
from nasplatform.pruning.importance import bn_scale


def scop(module: nn.Module, graph: ChannelGraph, scales: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return |gamma| (beta - (1 - beta)): how much more the real feature counts (SCOP, release).

    gamma is the weight of the normalisation after the layer, 1 where there is none.
    """
    gammas = bn_scale(module, graph)
    return {name: gammas[name] * (2 * beta - 1) for name, beta in scales.items()}
