"""Numbers in modules that say how channels are laid out: heads, and the width of a head.

Code that cuts channels into heads keeps their number, or the width of each, as an attribute. An
attribute that is as large as an axis of what its module lays out follows the axis. This is a
guess; like all that rules say, it is tried out before a channel is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nasplatform.pruning.couplings import Couplings
from nasplatform.pruning.graph import Groups

_WIDTHS = ("dim", "width", "size", "chan", "feat", "embed", "hidden")
"""What names of widths contain; one that speaks of heads and of none of these counts them."""


@dataclass(frozen=True)
class Number:
    """An attribute, and the groups of what it counts."""

    module: str
    attribute: str
    groups: Groups


class Arrangements:
    """The numbers that were seen where channels were laid out along several axes."""

    def __init__(self, couplings: Couplings) -> None:
        self._couplings = couplings
        self._seen: dict[tuple[str, str], list[Groups]] = {}

    def note(self, name: str, module: nn.Module, sides: list[Groups], whole: Groups) -> None:
        """Note the attributes that count the places of an axis, or all of the channels.

        sides: groups of the places on each axis, the outer one first.
        """
        for attribute, value in vars(module).items():
            if type(value) is not int:
                continue
            fitting = [side for side in sides if len(side) == value]
            if not fitting and value == len(whole):
                fitting = [whole]
            if fitting:
                counts = "head" in attribute and not any(word in attribute for word in _WIDTHS)
                groups = fitting[0] if counts else fitting[-1]
                self._seen.setdefault((name, attribute), []).append(groups)

    def numbers(self) -> list[Number]:
        """Return what follows slices that may go; those that one attribute counts are one."""
        found = []
        for (module, attribute), seen in self._seen.items():
            claimed = [groups for groups in seen if self._couplings.claims(groups)]
            for groups in claimed[1:]:
                self._couplings.unite(claimed[0], groups)
            if claimed:
                found.append(Number(module, attribute, claimed[0]))
        return found
