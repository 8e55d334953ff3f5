"""Ranking losses: what counts is the order of the scores, not their values."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

PairLoss = Literal["logistic", "hinge", "exponential"]


def pairwise_ranking_loss(
    scores: Tensor, targets: Tensor, kind: PairLoss = "logistic", margin: float = 1.0
) -> Tensor:
    """Ranking loss over all ordered pairs of a batch (ReNAS, section 3.2).

    The mean of phi(z) over pairs with different targets, z = (s_i - s_j) sign(y_i - y_j);
    phi(z) = log(1 + exp(-z)), max(0, margin - z) or exp(-z). The released demo also averages a
    constant over tied pairs, which has no gradient; here they are left out.

    scores:  predicted scores, shape (B,), higher is better.
    targets: measured scores, shape (B,).
    Returns a scalar. Raises ValueError for fewer than two distinct targets.
    """
    order = torch.sign(targets[:, None] - targets[None, :])
    pairs = order != 0
    if not pairs.any():
        raise ValueError("targets hold fewer than two distinct values: there is no pair to rank")
    z = ((scores[:, None] - scores[None, :]) * order)[pairs]
    if kind == "logistic":
        return functional.softplus(-z).mean()
    if kind == "hinge":
        return functional.relu(margin - z).mean()
    return torch.exp(-z).mean()
