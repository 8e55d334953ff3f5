"""What notes each operation of torch as steps."""

from __future__ import annotations

from nasplatform.runtimes.packed.following import Rules
from nasplatform.runtimes.packed.rules import (
    arithmetic,
    attention,
    functions,
    moves,
    pools,
    weighted,
)

RULES: Rules = {
    name: rule
    for room in (arithmetic, attention, functions, moves, pools, weighted)
    for name, rule in room.RULES.items()
}
