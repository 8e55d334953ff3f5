"""AZ-NAS: four views of an untrained network, ranked together (Lee and Ham, CVPR 2024).

From one forward and one backward pass of Gaussian noise through the blocks of a network:

- expressivity: the entropies of the spectra of the blocks' features, summed (eq. 2),
- progressivity: the smallest rise of that entropy from a block to the next (eq. 3),
- trainability: how near to 1 the gain of each block is, -s - 1 / s + 2, averaged (eq. 6), where s
  is the largest singular value of the mean of g' g^T over positions, g random signs at the output
  of a block and g' the gradient that they become at its input,
- complexity: FLOPs, which the space counts,

each higher is better, and of a population the logarithms of the four ranks, summed (eq. 7).

Our reading begins where the paper's networks end. Blocks are what the space calls so: of a
transformer whole layers, where the release reads both halves of each. Weights are the space's own
(release: He's for convolutions), normalisations see the batch, dropout is off. A block that is the
identity has the trainability of one that passes nothing, where the release has minus infinity:
both are last. Blocks that change the number of tokens have none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.evaluators.proxies import awake

PARTS = ("expressivity", "progressivity", "trainability")
_SMALL_SHARE, _SMALL_GAIN = 1e-8, 1e-6  # keep logarithm and quotient finite (release)


def az_nas(module: nn.Module, blocks: Sequence[nn.Module], images: Tensor) -> dict[str, float]:
    """Return ``PARTS`` of an untrained network; NaN where a block answers all images alike.

    blocks: layers of the module that all signals pass, at least two, in the order of the pass.
    images: (B, c, h, w), of which only the shape counts.
    """
    ends: list[Tensor] = []
    starts: list[Tensor] = []

    def cut(block: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        ends.append(made)
        starts.append(made.detach().requires_grad_())
        return starts[-1].clone()  # the next block may write into it

    handles = [block.register_forward_hook(cut) for block in blocks]
    awake(module).requires_grad_(False)(torch.randn_like(images))
    for handle in handles:
        handle.remove()
    entropies = np.array([spectral_entropy(start.detach()) for start in starts])
    gains = [gain(start, end) for start, end in zip(starts[:-1], ends[1:], strict=True)]
    found = [entropies.sum(), np.diff(entropies).min(), _trainability(np.array(gains))]
    return dict(zip(PARTS, map(float, found), strict=True))


def log_ranks(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B,) the sums of log(rank / B) over the columns of (B, K); NaN ranks last."""
    ranks = rankdata(np.nan_to_num(parts, nan=-np.inf), axis=0)
    summed: NDArray[np.float64] = np.log(ranks / len(parts)).sum(1)
    return summed


def spectral_entropy(features: Tensor) -> float:
    """Return the entropy, in nats, of the spectrum of the channels' covariance; NaN for none."""
    rows = _rows(features)
    centred = rows - rows.mean(0)
    spectrum = torch.linalg.eigvalsh((centred.T @ centred).double()).clamp(min=0)
    shares = spectrum / spectrum.sum()
    return -float((shares * (shares + _SMALL_SHARE).log()).sum())


def gain(start: Tensor, end: Tensor) -> float:
    """Return the largest singular value of the signs at the end times what becomes of them.

    NaN where tokens differ in number; 0 where all is passed unchanged, or nothing.
    """
    signs = torch.randint_like(end, 2) * 2 - 1
    back = None
    if end.requires_grad:
        (back,) = torch.autograd.grad(end, start, signs, allow_unused=True)
    if back is None or torch.equal(back, signs):
        return 0.0
    before, after = _rows(_gathered(back, end)), _rows(signs)
    if len(before) != len(after):
        return float("nan")
    return float(torch.linalg.matrix_norm(before.T @ after / len(after), 2))


def _trainability(gains: NDArray[np.float64]) -> float:
    known = gains[np.isfinite(gains)]
    return float((2 - known - 1 / (known + _SMALL_GAIN)).mean()) if len(known) else float("nan")


def _gathered(maps: Tensor, end: Tensor) -> Tensor:
    """Return maps with the sides of ``end``: pixels that become one stand in its channels."""
    if maps.dim() != 4 or end.dim() != 4 or maps.shape[2:] == end.shape[2:]:
        return maps
    stride = round(maps.shape[2] / end.shape[2])
    height, width = (
        stride * after - before for before, after in zip(maps.shape[2:], end.shape[2:], strict=True)
    )
    return functional.pixel_unshuffle(functional.pad(maps, (0, width, 0, height)), stride)


def _rows(features: Tensor) -> Tensor:
    """Return maps (B, C, h, w) or tokens (B, T, C) as (B h w, C) or (B T, C)."""
    if features.dim() == 4:
        features = features.movedim(1, -1)
    return features.flatten(0, -2)
