"""What works on each token by itself, or on it and its neighbours."""

from __future__ import annotations

from torch import Tensor, nn

from nasplatform.spaces.vit.architecture import FeedForward
from nasplatform.spaces.vit.tokens import Grid, OnMap, ShortcutWindow, as_map, as_sequence


def make_feed_forward(spec: FeedForward, width: int, grid: Grid) -> nn.Module:
    """Make the feed-forward part of a layer."""
    hidden = spec.hidden(width)
    if spec.kind == "inverted-residual":
        return InvertedResidual(width, hidden, grid)
    return MLP(width, hidden, grid if spec.kind == "mlp-conv" else None)


class MLP(nn.Module):
    """Linear, GELU, linear; with a grid a depthwise 3x3 before the GELU (PVTv2, Wang et al. 2022).

    (B, T, C) -> (B, T, C); class tokens pass by the convolution.
    """

    def __init__(self, width: int, hidden: int, grid: Grid | None = None) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.window: nn.Module = nn.Identity()
        if grid is not None:
            self.window = OnMap(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), grid)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(hidden, width)

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the part."""
        narrowed: Tensor = self.narrow(self.activation(self.window(self.widen(sequence))))
        return narrowed


class InvertedResidual(nn.Module):
    """IRFFN of CMT (Guo et al. 2022, section 3.4): batch normalisation behind every convolution.

    (B, h w, C) -> (B, h w, C).
    """

    def __init__(self, width: int, hidden: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.widen = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.GELU(), nn.BatchNorm2d(hidden))
        self.window = ShortcutWindow(hidden)
        self.activation = nn.Sequential(nn.GELU(), nn.BatchNorm2d(hidden))
        self.narrow = nn.Sequential(nn.Conv2d(hidden, width, 1), nn.BatchNorm2d(width))

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the part."""
        hidden = self.widen(as_map(sequence, self.grid))
        return as_sequence(self.narrow(self.activation(self.window(hidden))))
