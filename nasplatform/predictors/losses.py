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


def refinement_loss(features: Tensor, targets: Tensor) -> Tensor:
    """Pull architectures of like performance together in the space of the last hidden layer.

    The paper's representation-refining term (ReNAS, section 3.3) is not in the released code; this
    is our reading of it: distances between features should be proportional to distances between
    targets. The mean over pairs of (d_ij / mean d - t_ij / mean t)^2.

    features: shape (B, H). targets: shape (B,), at least two of them distinct.
    Returns a scalar, 0 where the distances are proportional.
    """
    rows, columns = torch.triu_indices(len(targets), len(targets), offset=1)
    # the root of 0 has no gradient
    near = ((features[rows] - features[columns]) ** 2).sum(1).add(1e-12).sqrt()
    apart = (targets[rows] - targets[columns]).abs()
    return ((near / near.mean() - apart / apart.mean()) ** 2).mean()
