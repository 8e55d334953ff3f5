"""Damage to files, drawn by hypothesis: bytes anywhere, or values of JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# A few in every run of the tests; ``make fuzz`` sets more and draws other ones each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
fuzzed = settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

_PIECE = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"\0" * 8, b"\xff" * 8, b"9" * 5000, b"\x7f\xff\xff\xff", b"nan", b"-1"]),
)
_CHANGE = st.tuples(
    st.floats(0, 1, exclude_max=True), st.sampled_from(["put", "insert", "cut", "end"]), _PIECE
)
_STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**400]),
    st.sampled_from([float("nan"), float("inf"), 1e308, -0.5]),
    st.sampled_from(["", "x", "\ud800", "../../etc", "9" * 500, "\0"]),
    st.sampled_from([[], {}, [[]], {"a": {}}, [None], ["x"] * 50]),
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with up to four changes of its bytes."""
    data = bytearray(whole)
    for where, how, piece in draw(st.lists(_CHANGE, min_size=1, max_size=4)):
        at = int(where * len(data))
        if how == "put":
            data[at : at + len(piece)] = piece
        elif how == "insert":
            data[at:at] = piece
        elif how == "cut":
            del data[at : at + 1 + len(piece)]
        else:
            del data[at:]
    return bytes(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            found += _places(part, (*path, key))
    return found


@st.composite
def misstated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A JSON file in which some values are others, or gone."""
    value = json.loads(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(value)
        if not places:
            break
        *heads, last = draw(st.sampled_from(places))
        inner = value
        for head in heads:
            inner = inner[head]
        if draw(st.integers(0, 4)):
            inner[last] = draw(_STRANGE)
        else:
            del inner[last]
    return json.dumps(value).encode("utf-8", "surrogatepass")
