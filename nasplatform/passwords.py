"""Addresses without their passwords, for whatever is shown or written."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_SECRET = re.compile(r"(pass(word|wd|phrase)|pwd|secret|token|(api|client|private)_?key)$", re.I)
_PORT = r"\d{1,5}(?:/[^\s@]*)?[:;,.)'\"]*(?:\s|$)"  # and a path: what follows are other words
_BEFORE_HOST = re.compile(rf"(://[^\s/:]*):(?!{_PORT}).*@", re.DOTALL)
_BEHIND_SLASH = re.compile(r"(?<!sqlite)(://[^\s:]*):[^\s/]\S*@")
_BEFORE_NOTHING = re.compile(r"(://[^\s/:@]*):(?!\d*(?:\W|$))[^\s/]+")  # the host is missing
_MISTYPED = re.compile(
    r"(?<![^\s'\"=])((?!\S{0,200}://)\S{0,200}?[\w%]):[^\s/:@][^\s:]{0,200}@(?=\w)"
)
_ENDS = r"[:,'\")]*(?:[\s&]|$)"  # of an address among other words
_IN_QUERY = re.compile(
    r"([?&])([^\s=&?]{1,80})="
    rf"(?:(?:(?![:,'\")]\s)[^&])*(?=&|$)|[^&\s]*?(?={_ENDS}))"
)
_LEFT_OVER = re.compile(rf"[?&]+(?=&|{_ENDS})")
_IN_PAIR = re.compile(
    r"(?<![\w-])([\w-]{1,80})(['\"]?\s?=\s?|['\"]\s?:\s?)(?:'[^']*'|\"[^\"]*\"|[^\s,}&]+)"
)
_API_KEY = re.compile(r"(nasp_[A-Za-z0-9-]{1,32}_)[A-Za-z0-9-]{8,}")


def without_password(text: str) -> str:
    """Return an address, or a text with one, without the password that stands in it.

    What is left of an address is one: its password can come from elsewhere, such as PGPASSWORD.
    Values of keys that are called a password, and keys of services, go too.
    """
    for pattern in (_BEFORE_HOST, _BEHIND_SLASH, _MISTYPED):
        text = pattern.sub(r"\1@", text)
    text = _BEFORE_NOTHING.sub(r"\1", text)
    rest = _IN_QUERY.sub(_query, text)
    if rest != text:
        text = _LEFT_OVER.sub("", re.sub(r"([?&])&+", r"\1", rest))
    return _API_KEY.sub(r"\1...", _IN_PAIR.sub(_pair, text))


def _query(found: re.Match[str]) -> str:
    return found[1] if _SECRET.search(unquote_plus(found[2])) else found[0]


def _pair(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}..." if _SECRET.search(found[1]) else found[0]
