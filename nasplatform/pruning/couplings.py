"""Numbers of channel groups that become one: a union-find, and labels of tensors.

The *labels* of a tensor say to which group each of its elements belongs: an integer tensor with
as many axes as the tensor, of length 1 on every axis along which the group does not change. They
change along one axis at most; what would make them change along two unites groups until it does
not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from nasplatform.pruning.graph import Groups

NOBODY = -1
"""The group of what belongs to no channel, such as a mean over all of them."""


class Couplings:
    """Which groups are one, and which stay."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pinned: set[int] = set()
        self.reasons: list[tuple[str, Groups]] = []

    def new(self, count: int) -> Groups:
        """Return the numbers of that many new groups."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def pin(self, groups: Groups, reason: str | None = None) -> Groups:
        """Keep groups, for a reason that is reported or because the task demands it."""
        self._pinned.update(np.unique(groups[groups != NOBODY]).tolist())
        if reason is not None:
            self.reasons.append((reason, groups))
        return groups

    def unite(self, first: Groups, second: Groups) -> None:
        """Make one group of every pair; what meets nobody's stays."""
        for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            if NOBODY in (a, b):
                self._pinned.update({a, b} - {NOBODY})
                continue
            self._parents[self._root(a)] = self._root(b)

    def meet(self, sides: Sequence[Groups]) -> Groups:
        """Make one group of what meets element by element, and return it; nobody's is left out."""
        met = sides[0]
        for side in sides[1:]:
            both = (met != NOBODY) & (side != NOBODY)
            self.unite(met[both], side[both])
            met = np.where(met == NOBODY, side, met)
        return met

    def unite_columns(self, groups: Groups, rows: int) -> Groups:
        """Unite what stands below one another in (rows, n / rows); return the first row, (n,)."""
        columns = groups.reshape(rows, -1)
        first: Groups = columns[0]
        self.unite(columns, np.broadcast_to(first, columns.shape))
        return first

    def roots(self, groups: Groups) -> Groups:
        """Return each group as the one number that stands for all it was united with."""
        found = np.array([self._root(group) for group in groups.ravel().tolist()], np.int64)
        return found.reshape(groups.shape)

    @property
    def pinned(self) -> set[int]:
        """The groups that stay, as their roots."""
        return {self._root(group) for group in self._pinned}

    def _root(self, group: int) -> int:
        if group == NOBODY:
            return group
        while self._parents[group] != group:
            self._parents[group] = self._parents[self._parents[group]]
            group = self._parents[group]
        return group

    def whole(self, labels: Tensor, shape: Iterable[int]) -> Tensor:
        """Return labels as one number per element of a tensor of that shape."""
        roots = torch.from_numpy(self.roots(labels.numpy()))
        return roots.expand(tuple(shape)).contiguous()

    def compact(self, labels: Tensor) -> Tensor:
        """Drop the axes along which whole labels do not change; unite until one is left.

        That is the last one, or of a map (B, C, h, w) that of the channels.
        """
        for axis in range(labels.dim()):
            first = labels.narrow(axis, 0, 1)
            if labels.shape[axis] > 1 and bool((labels == first).all()):
                labels = first
        varying = [axis for axis in range(labels.dim()) if labels.shape[axis] > 1]
        left = 1 if varying == [1, 2, 3] and labels.dim() == 4 else max(varying, default=0)
        for axis in [axis for axis in varying if axis != left]:
            first = labels.narrow(axis, 0, 1)
            pairs = torch.stack([labels.flatten(), first.expand(labels.shape).flatten()])
            self.unite(*torch.unique(pairs, dim=1).numpy())
            labels = first
        return labels.clone()


def axis_of(labels: Tensor) -> int | None:
    """Return the axis along which labels change; None for one group throughout."""
    return next((axis for axis in range(labels.dim()) if labels.shape[axis] > 1), None)


def along(labels: Tensor, axis: int, length: int) -> Groups | None:
    """Return the groups of the places on an axis, (length,); None where another one changes."""
    if axis_of(labels) not in (None, axis % labels.dim()):
        return None
    flat: Groups = labels.flatten().numpy()
    return flat if len(flat) == length else np.broadcast_to(flat, (length,)).copy()


def laid(groups: Groups, axis: int, dims: int) -> Tensor:
    """Return the labels of a tensor of that many axes whose groups change along one of them."""
    shape = [1] * dims
    shape[axis] = len(groups)
    return torch.from_numpy(np.ascontiguousarray(groups)).reshape(shape)
