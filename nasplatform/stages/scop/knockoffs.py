"""Knockoffs of images: look-alikes that carry no information on the label.

A knockoff X~ of X is made without looking at the label, and exchanging any block of pixels of X
with the same block of X~ does not change the joint distribution of the two (the *swap condition*;
SCOP exchanges several pixels as one unit). Three kinds:

``generator``  a small convolutional generator of (image, noise), trained on the user's images
               against a discriminator that tells which blocks were exchanged, as in KnockoffGAN,
               from which the swap discriminator with its hint is taken. In place of KnockoffGAN's
               critic and information terms, our own: match the mean and deviation of each pixel,
               and keep the knockoff from being a copy of the image. (SCOP's release has a
               pretrained generator that sees noise only, and no code to train one.)
``gaussian``   exact for the first two moments: group knockoffs for a multivariate normal
               distribution whose groups are the blocks (Dai and Barber 2016).
``shuffled``   other images of the batch, as in MindSpore Golden Stick. The swap condition holds
               for whole images only.

``check_swaps`` measures how far the condition holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.atomic_io import replace_file
from nasplatform.errors import StageError
from nasplatform.training.checkpoint import detached_state
from nasplatform.training.image_store import Images
from nasplatform.training.loop import Progress
from nasplatform.training.seeding import derive_seed, seeded

Knockoffs = Callable[[Tensor, torch.Generator], Tensor]
"""(images (B, c, h, w), generator on the CPU) -> knockoffs (B, c, h, w), without a gradient."""

LARGEST_GAUSSIAN = 4096
"""Values of an image up to which its covariance is handled, 128 MB in double precision."""
SHRINKAGE = 0.1
"""Share of the diagonal in the covariance that the Gaussian knockoffs use."""
HINT = 0.5
"""Share of the blocks of which the discriminator is told whether they are exchanged.

KnockoffGAN tells 0.9 of them, and nothing while the generator learns; half of them teaches it
five times as much in a step."""
UNLIKENESS = 0.05
"""Weight of the squared correlation of a pixel with its knockoff in the generator's loss.

Where its neighbours tell much of a block, an exchangeable knockoff of it is correlated with it. On
Fashion-MNIST at 7 x 7, in blocks of 2 x 2, one seed, the judge of ``check_swaps`` (800 steps) is
right in 0.69 of the cases at weight 1 and in 0.59 at 0.05; the correlation is 0.08 and 0.87."""
NOISE_MAPS = 4


class KnockoffOptions(BaseModel):
    """How knockoffs are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["generator", "gaussian", "shuffled"] = "gaussian"
    """``generator`` (SCOP), ``gaussian`` (second order) or ``shuffled`` (free). In ResNet-20 on
    Fashion-MNIST, cut to 45 %, six seeds (``analysis/stages_pruning.py --first-seed 100 --seeds 6
    --networks resnet20 --methods scop scop-shuffled``, then with other widths in two layers),
    ``gaussian`` keeps 63 % as cut and ``shuffled`` 53 %; after fine-tuning it is ahead by 0.17
    points ± 0.18, the standard error."""
    block: int = Field(default=4, ge=1)
    """Side of the blocks of pixels that are exchanged as one; clipped to the image."""
    steps: int = Field(default=2000, ge=1)
    """Steps in which the generator is trained (KnockoffGAN)."""
    batch_size: int = Field(default=128, ge=4)
    """Images in each of these steps (KnockoffGAN)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of Adam, with betas (0.5, 0.999) (KnockoffGAN: 1e-4)."""
    width: int = Field(default=16, ge=1)
    """Channels inside the generator and the discriminator."""
    diagnostic_steps: int = Field(default=200, ge=1)
    """Steps in which the discriminator of ``check_swaps`` is trained; more tell more (README)."""


@dataclass(frozen=True)
class SwapCheck:
    """How well knockoffs do.

    accuracy:    with which a fresh discriminator tells whether a block of an unseen image was
                 exchanged, knowing of most others; 0.5 where the swap condition holds.
    correlation: mean absolute correlation of a pixel with its knockoff; near 1 they are copies,
                 which are exchangeable but show no difference between real and knockoff.
    """

    accuracy: float
    correlation: float


def check_kind(kind: str, shape: Sequence[int]) -> None:
    """Raise StageError where a kind of knockoffs cannot handle images of shape (c, h, w)."""
    size = math.prod(shape)
    if kind == "gaussian" and size > LARGEST_GAUSSIAN:
        raise StageError(
            f"gaussian knockoffs handle images of at most {LARGEST_GAUSSIAN} values, these have "
            f"{size}; use the kind 'generator'"
        )


def make_knockoffs(
    images: Images | Tensor,
    options: KnockoffOptions,
    seed: int,
    *,
    device: str = "cpu",
    file: Path | None = None,
    progress: Progress | None = None,
) -> Knockoffs:
    """Learn from images (n, c, h, w), labels unseen, how to make their knockoffs.

    file: where a trained generator is kept; one that lies there is used again.
    Raises StageError where the kind cannot handle images of this size.
    """
    if options.kind == "shuffled":
        return shuffled
    if options.kind == "gaussian":
        return gaussian_knockoffs(images, options.block, device)
    generator = _Generator(images.shape[1], options.width, seed).to(device)
    if not _restored(generator, file):
        _train_generator(generator, images, options, seed, device, progress)
        if file is not None:
            with replace_file(file) as temporary:
                save_file(detached_state(generator.state_dict()), temporary)
    generator.requires_grad_(False)

    def sample(batch: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            made: Tensor = generator(batch, rng)
        return made

    return sample


def shuffled(images: Tensor, rng: torch.Generator) -> Tensor:
    """Return every image's neighbour in a random circle, so that none is its own knockoff."""
    order = torch.randperm(len(images), generator=rng)
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return images[partners.to(images.device)]


def gaussian_knockoffs(images: Images | Tensor, block: int, device: str = "cpu") -> Knockoffs:
    """Return second-order knockoffs with the moments of images (n, c, h, w).

    With covariance Sigma (a tenth of it replaced by its diagonal) and its block-diagonal part B:
    X~ | X is normal with mean X - (X - mu) Sigma^-1 S and covariance 2 S - S Sigma^-1 S, where
    S = gamma B and gamma = min(1, 2 lambda_min(B^-1/2 Sigma B^-1/2)).
    """
    check_kind("gaussian", images.shape[1:])
    flat = images[:].flatten(1).double()
    mean = flat.mean(0)
    sigma = shrunk_covariance(flat)
    owner = block_numbers(tuple(images.shape[1:]), block)
    within = torch.where(owner[:, None] == owner, sigma, torch.zeros_like(sigma))
    root = torch.linalg.cholesky(within)
    inner = torch.linalg.solve_triangular(root, sigma, upper=False)
    inner = torch.linalg.solve_triangular(root, inner.T, upper=False)
    gamma = min(1.0, 2 * float(torch.linalg.eigvalsh((inner + inner.T) / 2)[0]) * (1 - 1e-6))
    s = gamma * within
    pull = torch.linalg.solve(sigma, s)  # Sigma^-1 S
    values, vectors = torch.linalg.eigh(2 * s - s @ pull)
    spread = (vectors * values.clamp_min(0).sqrt()).T.float().to(device)
    mean, pull = mean.float().to(device), pull.float().to(device)

    def sample(batch: Tensor, rng: torch.Generator) -> Tensor:
        x = batch.flatten(1)
        noise = torch.randn(x.shape, generator=rng).to(x.device)
        made: Tensor = x - (x - mean) @ pull + noise @ spread
        return made.view_as(batch)

    return sample


def shrunk_covariance(flat: Tensor) -> Tensor:
    """Return (d, d) covariance of (n, d), a tenth of it replaced by its diagonal.

    A value that never changes gets a thousandth of the mean variance, so that none is zero.
    """
    sigma = torch.cov(flat.T, correction=0)
    diagonal = sigma.diagonal()
    floor = (diagonal.mean() * 1e-3 - diagonal).clamp_min(0)
    return (1 - SHRINKAGE) * sigma + torch.diag(SHRINKAGE * diagonal + floor)


def block_numbers(shape: tuple[int, ...], block: int) -> Tensor:
    """Return (c h w,) the number of the block of each value of an image (c, h, w)."""
    channels, height, width = shape
    across = -(-width // block)
    rows, columns = torch.arange(height) // block, torch.arange(width) // block
    return (rows[:, None] * across + columns).expand(channels, height, width).flatten()


def exchange(images: Tensor, knockoffs: Tensor, swaps: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange pixels where swaps (B, 1, h, w) is 1: returns what takes the place of each."""
    return torch.lerp(images, knockoffs, swaps), torch.lerp(knockoffs, images, swaps)


def check_swaps(
    images: Images | Tensor,
    knockoffs: Knockoffs,
    options: KnockoffOptions,
    seed: int,
    *,
    device: str = "cpu",
) -> SwapCheck:
    """Measure the swap condition on images (n, c, h, w).

    A discriminator learns on one half of the images which blocks were exchanged, and is asked
    about the other half.
    """
    rng = torch.Generator().manual_seed(derive_seed(seed, 0))
    order = torch.randperm(len(images), generator=rng)
    known, unseen = images[order[::2]].to(device), images[order[1::2]].to(device)
    judge = _Discriminator(images.shape[1], options, derive_seed(seed, 1)).to(device)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    for _ in range(options.diagnostic_steps):
        batch = known[torch.randint(len(known), (options.batch_size,), generator=rng)]
        _step(optimizer, judge.loss(batch, knockoffs(batch, rng), rng))
    made = knockoffs(unseen, rng)
    with torch.no_grad():
        swaps, logits, hidden = judge(unseen, made, rng)
    right = ((logits > 0) == (swaps > 0.5)).double() * hidden
    accuracy = float(right.sum() / hidden.sum().clamp_min(1))
    return SwapCheck(accuracy, float(_correlations(unseen, made).abs().mean()))


def _restored(generator: _Generator, file: Path | None) -> bool:
    """Load what was trained before; False where there is nothing, or it is damaged."""
    with suppress(OSError, SafetensorError, RuntimeError):
        if file is not None and file.exists():
            generator.load_state_dict(load_file(file))
            return True
    return False


def _train_generator(
    generator: _Generator,
    images: Images | Tensor,
    options: KnockoffOptions,
    seed: int,
    device: str,
    progress: Progress | None,
) -> None:
    judge = _Discriminator(images.shape[1], options, derive_seed(seed, 2)).to(device)
    rng = torch.Generator().manual_seed(derive_seed(seed, 3))
    optimizers = [
        torch.optim.Adam(module.parameters(), lr=options.learning_rate, betas=(0.5, 0.999))
        for module in (generator, judge)
    ]
    for step in range(options.steps):
        index = torch.randint(len(images), (options.batch_size,), generator=rng)
        batch = images[index].to(device)
        made = generator(batch, rng)
        _step(optimizers[1], judge.loss(batch, made.detach(), rng))
        loss = (
            judge.certainty(batch, made, rng)
            + _moments_apart(batch, made)
            + UNLIKENESS * _correlations(batch, made).square().mean()
        )
        _step(optimizers[0], loss)
        if progress:
            progress(step + 1, options.steps, "knockoffs")
    if not all(torch.isfinite(parameter).all() for parameter in generator.parameters()):
        raise StageError("the knockoff generator diverged; lower knockoffs.learning_rate")


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def _moments_apart(images: Tensor, made: Tensor) -> Tensor:
    means = (images.mean(0) - made.mean(0)).square().mean()
    return means + (images.std(0) - made.std(0)).square().mean()


def _correlations(images: Tensor, made: Tensor) -> Tensor:
    """Return the correlation of each pixel with its knockoff over the batch; 0 if constant."""
    a, b = images - images.mean(0), made - made.mean(0)
    scale = (a.square().mean(0) * b.square().mean(0)).clamp_min(1e-8).sqrt()
    return (a * b).mean(0) / scale


class _Generator(nn.Module):
    """(image, noise) -> knockoff, by three convolutions."""

    def __init__(self, channels: int, width: int, seed: int) -> None:
        super().__init__()
        with seeded(seed):
            self.layers = nn.Sequential(
                nn.Conv2d(channels + NOISE_MAPS, width, 5, padding=2),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 5, padding=2),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, channels, 5, padding=2),
            )

    def forward(self, images: Tensor, rng: torch.Generator) -> Tensor:
        batch, _, height, width = images.shape
        noise = torch.randn((batch, NOISE_MAPS, height, width), generator=rng).to(images.device)
        made: Tensor = self.layers(torch.cat([images, noise], dim=1))
        return made


class _Discriminator(nn.Module):
    """(images, knockoffs) with blocks exchanged, hint -> logit that a block was exchanged."""

    def __init__(self, channels: int, options: KnockoffOptions, seed: int) -> None:
        super().__init__()
        self.block, width = options.block, options.width
        with seeded(seed):
            self.layers = nn.Sequential(
                nn.Conv2d(2 * channels + 1, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 3, padding=1),
            )

    def loss(self, images: Tensor, made: Tensor, rng: torch.Generator) -> Tensor:
        """Return the cross-entropy of what it says of the blocks that it is not told, in nats."""
        swaps, logits, hidden = self(images, made, rng)
        return _entropy(logits, swaps, hidden)

    def certainty(self, images: Tensor, made: Tensor, rng: torch.Generator) -> Tensor:
        """Return the cross-entropy of being undecided: least where it cannot tell."""
        swaps, logits, hidden = self(images, made, rng)
        even = torch.full_like(swaps, 0.5)
        return _entropy(logits, even, hidden)

    def forward(
        self, images: Tensor, made: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Exchange random blocks: which, the logits, and which are not told, (B, 1, rows, columns).

        Without the hint nothing could be told of a pair whose exchange as a whole is allowed.
        """
        batch, _, height, width = images.shape
        shape = (batch, 1, -(-height // self.block), -(-width // self.block))
        swaps = (torch.rand(shape, generator=rng) < 0.5).float().to(images.device)
        hidden = (torch.rand(shape, generator=rng) >= HINT).float().to(images.device)
        pixels, asked = (self._grown(x)[..., :height, :width] for x in (swaps * hidden, hidden))
        a, b = exchange(images, made, pixels)  # a block of which it is told is put back in order
        logits = self.layers(torch.cat([a, b, asked], dim=1))
        pooled = functional.avg_pool2d(logits, self.block, ceil_mode=True)
        return swaps, pooled, hidden

    def _grown(self, blocks: Tensor) -> Tensor:
        """(B, 1, rows, columns) -> one value per pixel."""
        return blocks.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)


def _entropy(logits: Tensor, targets: Tensor, hidden: Tensor) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (each * hidden).sum() / hidden.sum().clamp_min(1)
