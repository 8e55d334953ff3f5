"""A small space of chains that several tests look at."""

import numpy as np

from nasplatform.spaces import get_space

TEXT = "w16s1:k3e3-k5e6/w24s2:k3e6"
OPTIONS = {
    "stem_channels": 8,
    "widths": ((8, 16), (24, 32)),
    "strides": ((1, 2), (1, 2)),
    "max_depth": 3,
    "kernels": (3, 5),
    "expansions": (1, 3, 6),
}


def small(**changed):
    return get_space("macro-chain", **{**OPTIONS, **changed})


def some(space, n=60, seed=0):
    return space.sample(n, np.random.default_rng(seed))
