"""Bodies of requests: unpacked and counted within bounds, then parsed where nobody waits for it.

The event loop answers everybody, so that nothing on it may take long. A large body is counted
first, in milliseconds, and refused where parsing it would hold Python's lock for long; what is
left is parsed in a thread.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from nasplatform.errors import InputError
from nasplatform.foreign import parse_json
from nasplatform.service.problems import Problem, bad_body
from nasplatform.service.settings import Settings

JSON, TEXT, BINARY = "application/json", "text/plain", "application/octet-stream"
SMALL = 1 << 13  # bytes, or a tenth as many items, that cost the event loop next to nothing
_BOM = b"\xef\xbb\xbf"
_OBJECT = 4  # values whose time an object takes
_GZIP = 16 + zlib.MAX_WBITS
B = TypeVar("B", bound=BaseModel)
T = TypeVar("T")


def require_media_type(request: Request, *allowed: str) -> str:
    """Return the media type of a body; raise Problem where it is none of those allowed."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in allowed:
        raise Problem(
            415,
            "unsupported-media-type",
            f"content type {given!r:.60}: send {' or '.join(allowed)}",
        )
    return given


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Return what ``work`` does to ``size`` bytes; in a thread unless they are few."""
    return work() if size <= SMALL else await asyncio.to_thread(work)


async def body_of(request: Request, settings: Settings) -> bytes:
    """Return the body, unpacked where it came as gzip, without a byte order mark."""
    body = await _received(request)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip"):
        body = await asyncio.to_thread(_unzipped, body, settings.max_body)
    elif coding not in ("identity", ""):
        detail = f"content encoding {coding!r:.60}: send gzip, or the body as it is"
        raise Problem(415, "unsupported-media-type", detail)
    return body.removeprefix(_BOM)


async def _received(request: Request) -> bytes:
    """Return the body as it came; ``request.body`` does the same in three times the time."""
    parts, more = [], True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_json(request: Request, model: type[B], settings: Settings) -> B:
    """Read a JSON body; raise Problem where it does not fit."""
    require_media_type(request, JSON)
    body = await body_of(request, settings)
    if len(body) > SMALL:
        _require_few_values(body, settings)
    return await off_loop(len(body), lambda: _parsed(body, model))


async def read_lines(request: Request, settings: Settings) -> list[str]:
    """Read a text, one architecture a line."""
    body = await body_of(request, settings)
    breaks = _count(np.frombuffer(body, np.uint8), b"\n")
    require_few_items(breaks + (not body.endswith(b"\n") and len(body) > 0), settings)
    return await off_loop(len(body), lambda: _lines(body))


async def read_codes(request: Request, words: int, settings: Settings) -> NDArray[np.uint64]:
    """Read codes (N, words) of 8 bytes each, little-endian."""
    body = await body_of(request, settings)
    size = 8 * words
    if len(body) % size:
        detail = f"the body has {len(body)} bytes: a code has {size}, little-endian"
        raise Problem(422, "bad-body", detail)
    require_few_items(len(body) // size, settings)
    return np.frombuffer(body, "<u8").astype(np.uint64).reshape(-1, words)


def require_few_items(count: int, settings: Settings) -> None:
    """Raise Problem for more architectures than a request may have."""
    if count > settings.max_items:
        raise Problem(
            413,
            "too-many-items",
            f"{count:,} architectures given, a request may have {settings.max_items:,}: send "
            f"several requests",
        )


def _unzipped(body: bytes, limit: int) -> bytes:
    machine = zlib.decompressobj(_GZIP)
    try:
        found = machine.decompress(body, limit + 1)
    except zlib.error:
        raise Problem(422, "bad-body", "the body is no gzip though its header says so") from None
    if len(found) > limit:
        raise Problem(413, "body-too-large", f"unpacked, a body may have {limit:,} bytes")
    if not machine.eof or machine.unused_data:
        raise Problem(422, "bad-body", "the gzip of the body is cut off, or goes on after its end")
    return found


def _require_few_values(body: bytes, settings: Settings) -> None:
    found = np.frombuffer(body, np.uint8)
    values = _count(found, b",") + _count(found, b"[") + _OBJECT * _count(found, b"{")
    if values > settings.max_values:
        raise Problem(
            413,
            "too-many-items",
            f"the body holds some {values:,} values, a request may have {settings.max_values:,} "
            f"of JSON: send architectures as texts, or several requests",
        )


def _count(found: NDArray[np.uint8], sign: bytes) -> int:
    return int(np.count_nonzero(found == sign[0]))


def _parsed(body: bytes, model: type[B]) -> B:
    try:
        found = model.model_validate_json(body)
        parse_json(body)  # again, for pydantic's reader takes the last of several values of a key
    except ValidationError as error:
        raise bad_body(error, model) from None
    except InputError as error:
        raise Problem(422, "bad-body", str(error)) from None
    return found


def _lines(body: bytes) -> list[str]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Problem(422, "bad-body", f"the text is no UTF-8: byte {error.start}") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
