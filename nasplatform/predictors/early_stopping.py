"""Early stopping: after the epoch that ranks held-out labels best. Those are labels, too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from nasplatform.predictors.calibration import Rows
from nasplatform.predictors.target_maps import Floats

EARLY_STOPPING = (
    "share of the labels held out to keep the weights that rank them best; "
    "20 epochs without better ones end the training"
)
_PATIENCE = 20
_LEAST = 4  # labels whose order says something


def held_apart(targets: Floats, share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the rows of targets (n,) to learn from, and those that are held out.

    None are held out for a share of 0, and where too few would be left to rank on either side.
    """
    every = np.arange(len(targets))
    if not share:
        return every, every[:0]
    order = rng.permutation(every)
    kept, learnt = np.split(order, [round(share * len(targets))])
    if min(len(kept), len(learnt)) < _LEAST or np.ptp(targets[kept]) * np.ptp(targets[learnt]) == 0:
        return every, every[:0]
    return np.sort(learnt), np.sort(kept)


class EarlyStopping:
    """Keeps the weights that rank the held-out labels best, by Kendall's tau.

    score:   returns the scores (k,) of the held-out architectures under the network's weights.
    targets: (k,) their labels; without any all epochs are run and the last weights kept.
    """

    def __init__(self, network: nn.Module, score: Callable[[], Floats], targets: Floats) -> None:
        self._network, self._score, self._targets = network, score, targets
        self._best, self._since = -np.inf, 0
        self._weights: dict[str, Tensor] = {}

    @property
    def watches(self) -> bool:
        """Whether labels are held out."""
        return len(self._targets) > 0

    def enough(self) -> bool:
        """Judge the weights after an epoch; return whether none of the last 20 were the best."""
        if not self.watches:
            return False
        tau = self._tau()
        self._since += 1
        if tau > self._best:
            self._best, self._since = tau, 0
            weights = self._network.state_dict()
            self._weights = {name: weight.clone() for name, weight in weights.items()}
        return self._since >= _PATIENCE

    def restore(self) -> None:
        """Give the network the best weights back."""
        if self._weights:
            self._network.load_state_dict(self._weights)

    def _tau(self) -> float:
        self._network.eval()
        with torch.inference_mode():
            tau = kendalltau(self._score(), self._targets).statistic
        self._network.train()
        return float(tau)
