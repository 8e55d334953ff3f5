"""A data set in one file: stripes of four directions under noise, drawn from a seed."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from nasplatform.training.datasets import DatasetOptions
from nasplatform.training.preprocessing import generator, standardised_task
from nasplatform.training.task import Task

DIRECTIONS = np.array([(0, 1), (1, 0), (1, 1), (1, -1)])


class StripesOptions(DatasetOptions):
    side: int = Field(default=8, ge=4, description="pixels of a side")
    size: int = Field(default=400, ge=40, description="images of all three splits together")
    seed: int = Field(default=0, ge=0, description="of phases and noise")


def stripes(options: StripesOptions) -> Task:
    """Half of the images train, a quarter each is for validation and test."""
    rng, side = generator(options.seed), options.side
    labels = np.arange(options.size, dtype=np.int64) % len(DIRECTIONS)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    phase = rng.uniform(0, 2 * np.pi, (options.size, 1, 1))
    waves = np.sin(np.tensordot(DIRECTIONS[labels], grid, 1) * np.pi / 2 + phase)
    images = (waves + rng.normal(0, 0.5, waves.shape))[:, None].astype(np.float32)
    parts = np.split(np.arange(options.size), [options.size // 2, options.size * 3 // 4])
    splits = [(images[part], labels[part]) for part in parts]
    return standardised_task("stripes", splits, "data set 'stripes'")
