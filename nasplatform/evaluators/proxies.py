"""Training-free proxies: what an untrained network says of what it could learn.

Each is a pure function of an untrained network, a batch of images and their labels, and returns one
number, higher is better, that is not finite where the network answers all images alike. They leave
running statistics and gradients behind: give them a network of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

Proxy = Callable[[nn.Module, Tensor, Tensor], float]
"""(untrained network, images (B, c, h, w), labels (B,)) -> score, higher is better."""
_SMALL = 1e-5  # keeps logarithm and quotient of an eigenvalue finite (release of jacov)


def jacov(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How unlike the slopes at different images are (Mellor et al. 2020, arXiv 2006.04647v1).

    With eigenvalues v of the correlations of the rows of d(sum of logits)/d(images), (B, c h w):
    -sum(log(v + k) + 1 / (v + k)).
    """
    given = images.clone().requires_grad_()
    module.train()
    (slopes,) = torch.autograd.grad(module(given).sum(), given, allow_unused=True)
    if slopes is None:
        return float("nan")
    rows = slopes.flatten(1).double()
    centred = rows - rows.mean(1, keepdim=True)
    scaled = centred / centred.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(scaled).all()):
        return float("nan")
    eigenvalues = torch.linalg.eigvalsh(scaled @ scaled.T) + _SMALL
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())


def naswot(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How many patterns of active rectifiers there are (Mellor et al., ICML 2021, eq. 2).

    The log determinant of the (B, B) numbers of rectifiers that agree between two images.
    """
    agreeing = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        active = (given[0].detach() > 0).flatten(1).float()
        both = active @ active.T + (1 - active) @ (1 - active).T
        agreeing.add_(both.double().cpu())

    rectifiers = [layer for layer in module.modules() if isinstance(layer, nn.ReLU)]
    handles = [layer.register_forward_hook(count) for layer in rectifiers]
    module.train()
    with torch.no_grad():
        module(images)
    for handle in handles:
        handle.remove()
    return float(torch.linalg.slogdet(agreeing)[1])


def synflow(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Logarithm of the synaptic flow (Tanaka et al., NeurIPS 2020), images and labels unseen.

    The sum over all parameters of |w dR/dw|, R the sum of the logits of an image of ones under
    weights made positive; normalisations as in evaluation. The logarithm changes no order.
    """
    positive = module.double().eval()
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    output = positive(torch.ones_like(images[:1], dtype=torch.float64)).sum()
    weights = [weight for weight in positive.parameters() if weight.requires_grad]
    slopes = torch.autograd.grad(output, weights, allow_unused=True)
    flows = [w.detach() * s for w, s in zip(weights, slopes, strict=True) if s is not None]
    total = sum(float(flow.abs().sum()) for flow in flows)
    return float(torch.tensor(total, dtype=torch.float64).log())


def zico(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How steady gradients are from batch to batch (ZiCo, Li et al., ICLR 2023, eq. 13).

    The batch is cut in two. With the gradients g of a layer's weights on either half, summed over
    layers: log sum(E|g| / std(g)), over weights whose gradients differ.
    """
    layers = [
        layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]  # biases and normalisations are left out (release)
    gradients: list[list[Tensor]] = [[] for _ in layers]
    module.train()
    for part, wanted in zip(images.chunk(2), labels.chunk(2), strict=True):
        loss = functional.cross_entropy(module(part), wanted)
        slopes = torch.autograd.grad(loss, [layer.weight for layer in layers], allow_unused=True)
        for kept, slope in zip(gradients, slopes, strict=True):
            if slope is not None:
                kept.append(slope.flatten())
    total = 0.0
    for kept in gradients:
        if kept:
            both = torch.stack(kept)
            spread = both.std(0, correction=0)
            moved = spread > 0
            ratio = float((both.abs().mean(0)[moved] / spread[moved]).sum())
            total += float(torch.tensor(ratio).log()) if ratio > 0 else 0.0
    return total if total else float("nan")


PROXIES: Mapping[str, Proxy] = {
    "jacov": jacov,
    "naswot": naswot,
    "synflow": synflow,
    "zico": zico,
}
