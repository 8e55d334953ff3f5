"""Which cells are the same: the canonical string of NAS-Bench-201, for all codes at once.

The string is that of ``Structure.to_unique_str(consider_zero=True)`` in D-X-Y/AutoDL-Projects,
to the letter: skips vanish, what comes from nothing is ``#``, and the terms of a sum are sorted.
It calls a sum of two nothings ``#+#`` and not ``#``, so that a few cells which compute the same
function count as different ones; with that the space has its published 6,466 unique cells.
"""

from __future__ import annotations

from functools import cache
from hashlib import md5
from itertools import product

import numpy as np
from numpy.typing import NDArray

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_NOTHING = "#"


@cache
def canonical_strings() -> tuple[str, ...]:
    """Return the canonical string of each of the 15,625 cells, by code."""
    first = _sums(["0"])
    second = [_sums(["0", one]) for one in first]
    return tuple(
        third
        for one, twos in zip(first, second, strict=True)
        for two in twos
        for third in _sums(["0", one, two])
    )


@cache
def classes() -> NDArray[np.uint64]:
    """Return (15625,) uint64: the code that stands for the isomorphism class, by code.

    Of the cells with one canonical string it is the one with the fewest parameters, and of
    those the lowest code: a cell drawn from the unique ones carries no more dead weight than
    it must.
    """
    strings = canonical_strings()
    digits = np.stack(np.unravel_index(np.arange(len(strings)), (len(OPERATIONS),) * 6), axis=1)
    # Six 1x1 convolutions weigh less than one 3x3, so the two counts order by parameters.
    wide, narrow = ((digits == OPERATIONS.index(f"nor_conv_{k}")).sum(1) for k in ("3x3", "1x1"))
    cheapest: dict[str, int] = {}
    for code in np.lexsort((narrow, wide)).tolist():
        cheapest.setdefault(strings[code], code)
    table = np.array([cheapest[text] for text in strings], np.uint64)
    table.flags.writeable = False
    return table


@cache
def class_hashes() -> dict[int, str]:
    """Return the md5 of the canonical string of each class, by the code that stands for it."""
    strings = canonical_strings()
    return {
        int(code): md5(strings[code].encode(), usedforsecurity=False).hexdigest()
        for code in np.unique(classes())
    }


def _sums(sources: list[str]) -> list[str]:
    """Return the strings of a node for every choice of operations on its edges, in code order."""
    terms = [[_term(name, source) for name in OPERATIONS] for source in sources]
    return ["+".join(sorted(chosen)) for chosen in product(*terms)]


def _term(name: str, source: str) -> str:
    if name == "none" or source == _NOTHING:
        return _NOTHING
    return source if name == "skip_connect" else f"({source})@{name}"
