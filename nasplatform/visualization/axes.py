"""What all pictures share: axes, colours, files."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from nasplatform.atomic_io import replace_file
from nasplatform.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#B5598F", "#8C6D00", "#000000", "#56B4E9", "#E69F00")
"""Okabe and Ito (2008), told apart by most colour-blind people; yellow and purple are darkened.

The first six stand out from white by 3 : 1 at least; ``colours.css`` has them for pages.
"""
QUIET = "0.45"
"""Of what is only there to compare with."""


def new_axes(width: float = 6.4, height: float = 4.0) -> Axes:
    """Return axes of a new figure of a size in inches; MissingExtraError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "pictures need matplotlib: pip install 'nasplatform[plot]'"
        ) from None
    axes: Axes = Figure(figsize=(width, height), layout="constrained").subplots()
    axes.grid(alpha=0.3)
    return axes


def save(axes: Axes, path: Path | str) -> None:
    """Write the figure of axes as the suffix says (svg, png, pdf), whole or not at all."""
    import matplotlib as mpl

    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    path = Path(path)
    with replace_file(path) as temporary, mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=150)


def colour_of(method: str) -> str:
    """Return the colour of a sampler or predictor: the same one in every picture.

    method: a registered name, or one with options behind a colon; anything else is grey.
    """
    return _colours().get(method.partition(":")[0], QUIET)


def dashes_of(axes: Axes, colour: str) -> str:
    """Return a line style that no other line of this colour has: the same method, other options."""
    lines = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    return ("-", "--", "-.")[sum(line.get_color() == colour for line in lines) % 3]


@lru_cache
def _colours() -> dict[str, str]:
    """Deal colours to predictors from one end of the palette and to samplers from the other.

    They stand in one picture, where a curve of the sampler ``predictor`` has the colour of its
    predictor; random search, which all others are compared with, is grey.
    """

    def names(kind: str) -> list[str]:
        return sorted({entry.name for entry in entry_points(group=f"nasplatform.{kind}")})

    samplers = [name for name in names("samplers") if name not in ("predictor", "random")]
    return {
        "predictor": PALETTE[0],
        **{name: PALETTE[-1 - i % len(PALETTE)] for i, name in enumerate(samplers)},
        **{name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names("predictors"))},
    }
