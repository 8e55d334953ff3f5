"""Numbers of channel groups that become one: a union-find, and labels of tensors.

The *labels* of a tensor say to which group each of its elements belongs: an integer tensor with
as many axes as the tensor, of length 1 on every axis along which the group does not change.

A group may be a *product* of others: it goes when one of them goes. So the channels of attention,
once they are laid out as heads by places in a head, can go by whole heads and by a place of every
head, and in no other way. Labels that change along several axes are products whose parts change
along one axis each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
        self._parts: dict[int, tuple[int, ...]] = {}  # of products, by their roots
        self._pinned: set[int] = set()
        self._outer: set[int] = set()
        self._claimed: set[int] = set()
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
            self._join(a, b)

    def _join(self, first: int, second: int) -> None:
        a, b = self._root(first), self._root(second)
        if a == b:
            return
        if NOBODY in (a, b):
            self._pinned.update({a, b} - {NOBODY})
            return
        ours, theirs = self._parts.get(a), self._parts.get(b)
        if self._contains(a, b) or self._contains(b, a):
            self._pinned.update((a, b))  # what is a part of itself stays
        elif ours and theirs and len(ours) != len(theirs):
            self._pinned.update((a, b))  # laid out in two ways
        else:
            self._parents[a] = b
            self._parts.pop(a, None)
            if ours and not theirs:
                self._parts[b] = ours
            for mine, other in zip(ours or (), theirs or (), strict=False):
                self._join(mine, other)

    def _contains(self, product: int, group: int) -> bool:
        return any(
            self._root(part) == group or self._contains(self._root(part), group)
            for part in self._parts.get(product, ())
        )

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

    def parts(self, group: int) -> tuple[int, ...]:
        """Return the groups with one of which a group goes, as roots: itself unless a product."""
        root = self._root(group)
        if root not in self._parts:
            return (root,)
        return tuple(leaf for part in self._parts[root] for leaf in self.parts(part))

    def claim(self, *groups: Groups | None) -> None:
        """Say that slices of an outer axis may go, for what works on each of them by itself."""
        for some in groups:
            self._claimed.update(() if some is None else np.unique(some).tolist())

    def claims(self, groups: Groups) -> bool:
        """Return whether all of these may go as slices."""
        claimed = self._leaves(self._claimed)
        return self._leaves(np.unique(groups).tolist()) <= claimed

    @property
    def pinned(self) -> set[int]:
        """The groups that stay, as their roots; a product's parts stay with it."""
        return self._leaves(self._pinned) | (
            self._leaves(self._outer) - self._leaves(self._claimed)
        )

    def stays(self, labels: Tensor) -> bool:
        """Return whether all groups of labels are known to stay."""
        return self._leaves(labels.flatten().tolist()) <= self._leaves(self._pinned)

    def _leaves(self, groups: Iterable[int]) -> set[int]:
        return {leaf for group in groups for leaf in self.parts(group)}

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
        """Drop the axes along which whole labels do not change; lay out what changes along two.

        A vector that becomes a map (B, C, h, w) is left with its channels.
        """
        for axis in range(labels.dim()):
            first = labels.narrow(axis, 0, 1)
            if labels.shape[axis] > 1 and bool((labels == first).all()):
                labels = first
        if len(axes_of(labels)) < 2:
            return labels.clone()
        leaves = self._leaves_of(labels)
        if leaves is None or bool((labels == NOBODY).any()):
            return self._one_axis(labels, axes_of(labels)[-1]).clone()
        if len(leaves) == 1 and labels.dim() == 4 and axes_of(labels) == [1, 2, 3]:
            return self._one_axis(labels, 1).clone()
        for part in leaves:
            axes = axes_of(part)
            if len(axes) > 1:
                self._lay_out(part, axes)
        return labels.clone()

    def _leaves_of(self, labels: Tensor) -> Tensor | None:
        """Return the parts of every label, (parts, ...); None where they are not equally many."""
        values, places = torch.unique(labels, return_inverse=True)
        leaves = [self.parts(value) for value in values.tolist()]
        if len({len(parts) for parts in leaves}) > 1:
            return None
        return torch.tensor(leaves).T[:, places.flatten()].reshape(-1, *labels.shape)

    def _lay_out(self, part: Tensor, axes: list[int]) -> None:
        """Make products of groups that change along several axes, with a part for each of them."""
        for axis in range(part.dim()):
            if axis not in axes:
                part = part.narrow(axis, 0, 1)
        sides = [self.new(part.shape[axis]) for axis in axes]
        for outer in sides[:-1]:
            self._outer.update(outer.tolist())
        laid_out: dict[int, tuple[int, ...]] = {}
        grid = part.reshape([part.shape[axis] for axis in axes]).numpy()
        for place in np.ndindex(*grid.shape):
            slices = tuple(int(side[i]) for side, i in zip(sides, place, strict=True))
            known = laid_out.setdefault(int(grid[place]), slices)
            for one, other in zip(known, slices, strict=True):
                self._join(one, other)
        self._parts.update(laid_out)

    def _one_axis(self, labels: Tensor, left: int) -> Tensor:
        """Unite groups until they change along one axis only."""
        for axis in [axis for axis in axes_of(labels) if axis != left]:
            first = labels.narrow(axis, 0, 1)
            pairs = torch.stack([labels.flatten(), first.expand(labels.shape).flatten()])
            self.unite(*torch.unique(pairs, dim=1).numpy())
            labels = first
        return labels

    def slices(self, labels: Tensor, axis: int, length: int) -> Groups | None:
        """Return the groups of the places on an axis, (length,), whatever changes along others.

        None where the labels do not change along this axis, or in a way that cannot be told.
        """
        axes, axis = places_of(labels), axis % labels.dim()
        if axis not in axes:
            return None
        if len(axes) == 1:
            return along(labels, axis, length)
        leaves = self._leaves_of(labels)
        if leaves is None:
            return None
        found = [axes_of(part) for part in leaves]
        own = [i for i, changing in enumerate(found) if changing == [axis]]
        own = own or [i for i, changing in enumerate(found) if not changing]
        if not own or any(axis in changing and len(changing) > 1 for changing in found):
            return None
        line = leaves
        for other in axes:
            if other != axis:
                line = line.narrow(other + 1, 0, 1)
        parts = line.flatten(1)[own].expand(len(own), length).numpy()
        return parts[0].copy() if len(own) == 1 else self._products(list(parts))

    def _products(self, parts: list[Groups]) -> Groups:
        """Return products of the groups that stand at the same place, (n,)."""
        columns, places = np.unique(self._somebody(np.stack(parts)), axis=1, return_inverse=True)
        made = self.new(columns.shape[1])
        for product, column in zip(made.tolist(), columns.T.tolist(), strict=True):
            self._parts[product] = tuple(column)
        found: Groups = made[places.ravel()]
        return found

    def _somebody(self, groups: Groups) -> Groups:
        """Put a group that stays in the place of nobody's."""
        nobody = groups == NOBODY
        return np.where(nobody, self.pin(self.new(1)), groups) if nobody.any() else groups

    def spread(self, sides: Mapping[int, Groups], dims: int) -> Tensor:
        """Return the labels of a tensor whose places on each of these axes belong to groups.

        Without any, those of one group that stays.
        """
        if len(sides) < 2:
            axis, groups = next(iter(sides.items()), (0, self.pin(self.new(1))))
            return laid(groups, axis, dims)
        axes, distinct, back = sorted(sides), [], []
        for axis in axes:
            values, places = np.unique(self.roots(sides[axis]), return_inverse=True)
            distinct.append(values)
            back.append(places.ravel())
        every = np.meshgrid(*distinct, indexing="ij")
        grid = self._products([side.ravel() for side in every]).reshape(every[0].shape)
        shape = [1] * dims
        for axis in axes:
            shape[axis] = len(sides[axis])
        return torch.from_numpy(grid[np.ix_(*back)].copy()).reshape(shape)


def axes_of(labels: Tensor) -> list[int]:
    """Return the axes along which labels change."""
    return [
        axis
        for axis in range(labels.dim())
        if labels.shape[axis] > 1 and bool((labels != labels.narrow(axis, 0, 1)).any())
    ]


def axis_of(labels: Tensor) -> int | None:
    """Return the first axis on which labels have a place each; None for one group throughout."""
    return next((axis for axis in range(labels.dim()) if labels.shape[axis] > 1), None)


def along(labels: Tensor, axis: int, length: int) -> Groups | None:
    """Return the groups of the places on an axis, (length,); None where another one changes."""
    if not set(places_of(labels)) <= {axis % labels.dim()}:
        return None
    flat: Groups = labels.flatten().numpy()
    return flat if len(flat) == length else np.broadcast_to(flat, (length,)).copy()


def places_of(labels: Tensor) -> list[int]:
    """Return the axes on which labels have a place each."""
    return [axis for axis in range(labels.dim()) if labels.shape[axis] > 1]


def laid(groups: Groups, axis: int, dims: int) -> Tensor:
    """Return the labels of a tensor of that many axes whose groups change along one of them."""
    shape = [1] * dims
    shape[axis] = len(groups)
    return torch.from_numpy(np.ascontiguousarray(groups)).reshape(shape)
