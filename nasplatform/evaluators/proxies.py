"""Training-free proxies: what an untrained network says of what it could learn.

Each is a pure function of an untrained network, a batch of images and their labels, and returns one
number, higher is better, that is not finite where the network answers all images alike. They leave
running statistics and gradients behind: give them a network of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

Proxy = Callable[[nn.Module, Tensor, Tensor], float]
"""(untrained network, images (B, c, h, w), labels (B,)) -> score, higher is better."""
_SMALL = 1e-5  # keeps logarithm and quotient of an eigenvalue finite (release of jacov)
_SWITCHES = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish)
_WEIGHTED = (nn.Conv2d, nn.Linear)


def awake(module: nn.Module) -> nn.Module:
    """Return the module, its batch normalisations as in training, all else as in evaluation."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train()
    return module


def jacov(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How unlike the slopes at different images are (Mellor et al. 2020, arXiv 2006.04647v1).

    With eigenvalues v of the correlations of the rows of d(sum of logits)/d(images), (B, c h w):
    -sum(log(v + k) + 1 / (v + k)).
    """
    given = images.clone().requires_grad_()
    logits = awake(module).requires_grad_(False)(given)
    if not logits.requires_grad:
        return float("nan")
    (slopes,) = torch.autograd.grad(logits.sum(), given, allow_unused=True)
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

    The log determinant of the (B, B) numbers of rectifiers that agree between two images. ReLU6,
    GELU, SiLU and Hardswish count as rectifiers, active above 0; without any there is no answer.
    """
    agreeing = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        signs = torch.where(given[0].flatten(1) > 0, 1.0, -1.0)
        agreeing.add_(((signs @ signs.T + signs.shape[1]) / 2).double().cpu())

    rectifiers = [layer for layer in module.modules() if isinstance(layer, _SWITCHES)]
    handles = [layer.register_forward_hook(count) for layer in rectifiers]
    with torch.no_grad():
        awake(module)(images)
    for handle in handles:
        handle.remove()
    return float(torch.linalg.slogdet(agreeing)[1])


def synflow(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Logarithm of the synaptic flow (Tanaka et al., NeurIPS 2020), images and labels unseen.

    The sum over weights of convolutions and linear layers of |w dR/dw|, R the sum of the logits of
    an image of ones under parameters made positive; normalisations as in evaluation, where they
    change an untrained network by a factor alone. The logarithm changes no order.
    """
    positive = module.double().eval()
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    output = positive(torch.ones_like(images[:1], dtype=torch.float64)).sum()
    weights = [layer.weight for layer in positive.modules() if isinstance(layer, _WEIGHTED)]
    slopes = torch.autograd.grad(output, weights, allow_unused=True)
    flows = [w.detach() * s for w, s in zip(weights, slopes, strict=True) if s is not None]
    total = sum(float(flow.abs().sum()) for flow in flows)
    return math.log(total) if total > 0 else -math.inf


def zico(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How steady gradients are from batch to batch (ZiCo, Li et al., ICLR 2023, eq. 13).

    The batch is cut in two. With the gradients g of a layer's weights on either half, summed over
    layers: log sum(E|g| / std(g)), over weights whose gradients differ.
    """
    weights = [layer.weight for layer in module.modules() if isinstance(layer, _WEIGHTED)]
    halves = []  # biases and normalisations are left out (release)
    for part, wanted in zip(images.chunk(2), labels.chunk(2), strict=True):
        loss = functional.cross_entropy(awake(module)(part), wanted)
        halves.append(torch.autograd.grad(loss, weights, allow_unused=True))
    layers = [pair for pair in zip(*halves, strict=True) if pair[0] is not None]
    sums = [_steadiness(torch.stack(pair)) for pair in layers]
    moved = [math.log(one) for one in sums if one > 0]
    return sum(moved) if moved else float("nan")


def _steadiness(gradients: Tensor) -> float:
    """Return the sum of E|g| / std(g) over the weights of a layer whose gradients (n, ...) move."""
    spread = gradients.std(0, correction=0)
    moved = spread > 0
    return float((gradients.abs().mean(0)[moved] / spread[moved]).sum())


PROXIES: Mapping[str, Proxy] = {
    "jacov": jacov,
    "naswot": naswot,
    "synflow": synflow,
    "zico": zico,
}
