"""Which unlabelled images are worth learning from.

By confidence: those of whose class the teacher is surest (DFND, Chen et al., CVPR 2021). By PU
learning: those that look like the labelled ones to a classifier of labelled (positive) against
unlabelled (a mixture), trained with the non-negative risk (Kiryo et al. 2017), as in PU
compression (Xu et al., NeurIPS 2019), which trains a whole network for it; here it is a small
one on the teacher's pooled maps and answers, which is our reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from nasplatform.errors import StageError
from nasplatform.stages.distill.features import feature_maps, last_maps, tapped
from nasplatform.stages.distill.sources import PerClass, Share
from nasplatform.stages.distill.teachers import (
    ModuleTeacher,
    Teacher,
    Tell,
    stored_answers,
    stored_rows,
)
from nasplatform.training.descent import Descent
from nasplatform.training.image_store import Images
from nasplatform.training.seeding import derive_seed, seeded

BATCH, RATE = 512, 1e-3


class ConfidenceChoice(BaseModel):
    """The images of which the teacher is surest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    by: Literal["confidence"]
    """How they are chosen: those of which the teacher is surest."""
    keep: Share | PerClass = 0.5
    """Share or number of images that are kept (DFND: 600,000 of 1.28 million)."""


class PUChoice(BaseModel):
    """The images that a classifier takes for labelled ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    by: Literal["pu"]
    """How they are chosen: by a classifier that learns from labelled and unlabelled images."""
    prior: float = Field(default=0.21, gt=0, lt=1)
    """Share of the unlabelled images that is like the labelled ones (PU compression: 0.21)."""
    keep: Share | PerClass | None = None
    """Share or number of images that are kept; null for all that are taken for labelled ones."""
    epochs: int = Field(default=30, ge=1)
    """Passes over the unlabelled images (release: 170, of a whole network)."""
    hidden: int = Field(default=64, ge=1)
    """Hidden units of the classifier (ours)."""


Choice = Annotated[ConfidenceChoice | PUChoice, Field(discriminator="by")]


def uncertainty(logits: Tensor) -> Tensor:
    """Return the cross-entropy to the own most likely class, in nats: (n, K) -> (n,) (DFND)."""
    return torch.logsumexp(logits, 1) - logits.amax(1)


def nonnegative_risk(positive: Tensor, unlabelled: Tensor, prior: float) -> tuple[Tensor, Tensor]:
    """Return the two parts of the risk with the sigmoid loss (Kiryo et al. 2017, eq. 6).

    positive, unlabelled: logits (m,) and (n,); prior: share of positives among the unlabelled.
    The risk is ``first + max(0, second)``.
    """
    as_positive, as_negative = torch.sigmoid(-positive).mean(), torch.sigmoid(positive).mean()
    rest = torch.sigmoid(unlabelled).mean() - prior * as_negative
    return prior * as_positive, rest


def chosen_rows(
    choice: ConfidenceChoice | PUChoice,
    teacher: Teacher,
    labelled: Images,
    unlabelled: Images,
    folder: Path,
    seed: int,
    device: str,
    tell: Tell,
) -> NDArray[np.int64]:
    """Return which unlabelled images are kept, sorted: (m,); raise StageError where none are."""
    if isinstance(choice, ConfidenceChoice):
        said = stored_answers(teacher, unlabelled, folder, device, tell)
        liking = torch.cat([-uncertainty(part) for part in torch.split(said, BATCH)])
    else:
        known = _features(teacher, labelled, folder, device, tell)
        others = _features(teacher, unlabelled, folder, device, tell)
        liking = _like_labelled(known, others, choice, seed)
    if choice.keep is not None:
        count = kept_count(choice.keep, len(unlabelled))
        return np.sort(liking.argsort(descending=True, stable=True)[:count].numpy())
    kept = np.flatnonzero(liking.numpy() > 0)
    if not len(kept):
        raise StageError(f"choice by {choice.by} leaves none of the {len(unlabelled):,} images")
    return kept


def kept_count(keep: float | int, images: int) -> int:
    """Return how many images a share or a number is; raise StageError for none or too many."""
    count = round(keep * images) if isinstance(keep, float) else keep
    if not 0 < count <= images:
        raise StageError(f"choice.keep: {keep} asks for {count} of {images:,} unlabelled images")
    return count


def _features(teacher: Teacher, images: Images, folder: Path, device: str, tell: Tell) -> Tensor:
    """Return what the teacher makes of images: the means of its last maps, and its answers."""
    inner = teacher.inner
    if not isinstance(inner, ModuleTeacher):
        return stored_answers(teacher, images, folder, device, tell)
    module, (_, *shape) = inner.on("cpu").module, images.shape
    maps = last_maps(feature_maps(module, (shape[0], shape[1], shape[2])))
    names = [one.name for one in maps]
    inner.on(device)

    def compute(inputs: Tensor) -> Tensor:
        with tapped(module, names) as made:
            said = teacher(inputs.to(device))
        return torch.cat([said, *(made[name].mean(2) for name in names)], 1).float().cpu()

    key = hashlib.sha256(f"{teacher.digest}{names}".encode())
    images.add_to(key)
    path = folder / f"features-{key.hexdigest()[:32]}.npy"
    width = teacher.classes + sum(one.channels for one in maps)
    return stored_rows(path, images, width, compute, tell, "the teacher's maps")


def _like_labelled(labelled: Tensor, unlabelled: Tensor, choice: PUChoice, seed: int) -> Tensor:
    """Train the classifier; return its logits of the unlabelled rows, (n,)."""
    deviation, mean = torch.std_mean(labelled, 0, correction=0)

    def standard(part: Tensor) -> Tensor:
        return (part - mean) / (deviation + 1e-5)

    with seeded(derive_seed(seed, 1)):
        hidden = nn.Linear(labelled.shape[1], choice.hidden)
        network = nn.Sequential(hidden, nn.ReLU(), nn.Linear(choice.hidden, 1), nn.Flatten(0))

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = torch.Generator().manual_seed(derive_seed(seed, 2, epoch))
        for rows in torch.split(torch.randperm(len(unlabelled), generator=rng), BATCH):
            some = torch.randperm(len(labelled), generator=rng)[:BATCH]
            yield standard(labelled[some]), standard(unlabelled[rows])

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        positive, mixed = (network(part) for part in batch)
        first, rest = nonnegative_risk(positive, mixed, choice.prior)
        # where the estimate of the negatives' risk is negative, step back from it (algorithm 1)
        return first + rest if float(rest.detach()) >= 0 else -rest

    Descent(choice.epochs, RATE, 5e-3).train(network, batches, loss)
    with torch.no_grad():
        return torch.cat([network(standard(part)) for part in torch.split(unlabelled, BATCH)])
