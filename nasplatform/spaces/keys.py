"""Keys of architectures that are several words long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mixed(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return (B,) a 64-bit mix of codes (B, W).

    Of a million codes any two share one at odds of 3e-8.
    """
    keys = np.zeros(len(codes), np.uint64)
    for word in codes.T:
        keys = _mix(keys ^ word)
    return keys


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014) after its increment: one to one."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
