"""Windows of a map, shifted or not (Swin, Liu et al. 2021, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplatform.spaces.vit.tokens import cut


class Windows(nn.Module):
    """Cuts a map of tokens (B, h w, C) into n windows (B, n, side side, C), and joins them again.

    A map that windows do not fill is filled up with zeros, which nothing else sees. ``shifted``
    rolls the map by half a window, up and to the left; what meets around its border is kept apart.

    mask: (n, 1, side side, side side), 0 where a token sees another and -inf where it does not;
          None where all tokens of a window see each other.
    """

    mask: Tensor | None

    def __init__(self, height: int, width: int, side: int, shifted: bool) -> None:
        super().__init__()
        self.height, self.width, self.side = height, width, side
        self.rows, self.columns = -(-height // side), -(-width // side)
        self.shift = side // 2 if shifted else 0
        filled = self._down or self._right
        mask = self._apart() if shifted or filled else None
        self.register_buffer("mask", mask, persistent=False)

    @property
    def _down(self) -> int:
        return self.rows * self.side - self.height

    @property
    def _right(self) -> int:
        return self.columns * self.side - self.width

    def cut(self, sequence: Tensor) -> Tensor:
        """Return the windows."""
        maps = torch.unflatten(sequence, 1, (self.height, self.width))
        if self._down or self._right:
            maps = F.pad(maps, (0, 0, 0, self._right, 0, self._down))
        if self.shift:
            maps = torch.roll(maps, (-self.shift, -self.shift), (1, 2))
        return cut(maps, self.side).flatten(3, 4).flatten(1, 2)

    def joined(self, windows: Tensor) -> Tensor:
        """Return the map of the windows."""
        squares = torch.unflatten(windows, 2, (self.side, self.side))
        squares = torch.unflatten(squares, 1, (self.rows, self.columns))
        maps = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shift:
            maps = torch.roll(maps, (self.shift, self.shift), (1, 2))
        return maps[:, : self.height, : self.width].flatten(1, 2)

    def _apart(self) -> Tensor:
        rows = _regions(self.height, self.rows * self.side, self.side, self.shift)
        columns = _regions(self.width, self.columns * self.side, self.side, self.shift)
        regions = cut((rows[:, None] * 8 + columns)[None, :, :, None], self.side).flatten(0, 2)
        regions = regions.flatten(1)  # (n, side side)
        differ = regions[:, :, None] != regions[:, None, :]
        mask = torch.zeros(differ.shape).masked_fill(differ, float("-inf"))
        return mask[:, None]


def _regions(length: int, filled: int, side: int, shift: int) -> Tensor:
    """Return (filled,) which stretch of an axis each place belongs to, after the shift."""
    places = torch.arange(filled)
    wrapped = (places >= filled - shift).long() if shift else torch.zeros(filled, dtype=torch.long)
    beyond = torch.roll((places >= length).long(), -shift)
    return wrapped + 2 * beyond
