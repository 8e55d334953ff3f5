"""Addresses without their passwords, for whatever is shown or written."""

from __future__ import annotations

import re

_BEFORE_HOST = re.compile(r"(://[^\s/:@]*):.*@", re.DOTALL)
_BEFORE_NOTHING = re.compile(r"(://[^\s/:@]*):(?!\d*(?:\W|$))[^\s/]+")  # the host is missing
_IN_QUERY = re.compile(r"([?&])\w*password=[^&\s'\"]*&?", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return an address, or a text with one, without the password that stands in it.

    What is left of an address is one: its password can come from elsewhere, such as PGPASSWORD.
    """
    text = _BEFORE_HOST.sub(r"\1@", text)
    text = _BEFORE_NOTHING.sub(r"\1", text)
    rest = _IN_QUERY.sub(r"\1", text)
    return text if rest == text else rest.rstrip("?&")
