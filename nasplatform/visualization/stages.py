"""Stages: what each did to accuracy, size and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from nasplatform.visualization.axes import PALETTE, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHARES = {
    "macs": "multiply-adds",
    "bytes_on_disk": "bytes on disk",
    "latency_64_ms": "ms, 64 images",
}


def stage_walk(walk: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw costs after each stage as shares of the first network's, and accuracy below them.

    walk: of one run, as ``runs.walk.stage_walk`` returns it.
    """
    axes = axes or new_axes()
    shown = [column for column in _SHARES if walk[column].notna().all() and walk[column].iloc[0]]
    width = 0.8 / max(len(shown), 1)
    for place, column in enumerate(shown):
        x = [i + (place - (len(shown) - 1) / 2) * width for i in range(len(walk))]
        share = walk[column] / walk[column].iloc[0]
        axes.bar(x, share, width * 0.9, label=_SHARES[column], color=PALETTE[place], alpha=0.85)
    accuracies = zip(walk["network"], walk["accuracy"], strict=True)
    axes.set_xticks(range(len(walk)), [f"{name}\n{share:.1%}" for name, share in accuracies])
    axes.set(ylabel="share of the first network's", xlabel="stage, test accuracy", ylim=(0, None))
    axes.legend(fontsize=8)
    return axes
