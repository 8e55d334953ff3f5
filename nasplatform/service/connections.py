"""Connections: how many, from whom, and how large, many and slow the headers on them may be.

The layer below the application. What comes before the end of a request's headers costs memory and
a descriptor, and no key has been seen yet: everything here is counted as it arrives.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections import defaultdict
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nasplatform.service.security import network_of
from nasplatform.service.settings import Settings

_HEAD = 32 << 10  # bytes of a request line with all headers
_HEADERS = 100
_ABSOLUTE = re.compile(rb"[a-z]+://([^/?#]*)", re.IGNORECASE)  # an address that names the host
_AROUND_BODY = 1 << 20  # bytes that the pieces of a body may take around it
_SWEEP = 0.5  # seconds between two looks at what is late
_LINGER = 0.5  # seconds between a refusal and the end
_PATIENCE = 0.5  # seconds that a connection may wait before it has to make room for another
_TRUST = 5.0  # the same for one that has asked before: its next request may be on its way
_STUCK = 30.0  # seconds in which a client must take some of its answer
_RESERVED = 128  # descriptors for files, the store, and the next connection
_WANTED = 8192  # descriptors


class Door:
    """All connections of a server, by address."""

    def __init__(self, settings: Settings) -> None:
        """Take the limits; the process may from now on open more files, where it is let."""
        self.settings = settings
        self.most = max(16, _descriptors() - _RESERVED)
        self.inside: dict[str, dict[GuardedProtocol, None]] = defaultdict(dict)  # oldest first
        self._count = 0
        self._sweeping = False

    def enter(self, one: GuardedProtocol) -> bool:
        """Let a connection in; one that only waits makes room for it. False: there is none."""
        mine = self.inside[one.address]
        if len(mine) >= self.settings.connections and not self._make_room(mine):
            return False
        if self._count >= self.most and not self._make_room(max(self.inside.values(), key=len)):
            return False
        mine[one] = None
        self._count += 1
        if not self._sweeping:
            self._sweeping = True
            one.loop.call_later(_SWEEP, self._sweep, one.loop)
        return True

    def leave(self, one: GuardedProtocol) -> None:
        """Forget a connection that has ended."""
        mine = self.inside.get(one.address, {})
        if one in mine:
            del mine[one]
            self._count -= 1
        if not mine:
            self.inside.pop(one.address, None)

    def _make_room(self, some: dict[GuardedProtocol, None]) -> bool:
        oldest = next((one for one in some if one.may_go), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.transport.abort()
        return True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for one in [one for some in self.inside.values() for one in some]:
            one.look_at_clock(now)
        self._sweeping = bool(self._count)
        if self._sweeping:
            loop.call_later(_SWEEP, self._sweep, loop)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds; ``guarded`` gives it its door."""

    door: Door

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # uvicorn narrows asyncio's type
    ) -> None:
        """Let a connection in, or say that there are too many."""
        super().connection_made(transport)
        self.address = network_of(self.client[0]) if self.client else "unknown"
        self.since = self._turn = self.loop.time()
        self.late_from: float | None = self.since  # when the head of a request began
        self._head = self._whole = 0  # bytes of the request so far
        self._in_head, self._counted, self._refused = True, False, 0
        self._over, self._dropped = False, 0  # what comes after a refusal is not looked at
        self._unsent, self._stuck = 0, self.since
        if not self.door.enter(self):
            self._end(503, "too many connections from this address: close some, or reuse them")

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: nothing is being worked on."""
        return self.idle or self.cycle.more_body

    @property
    def may_go(self) -> bool:
        """Whether it may be dropped for another: it sent half of a head, or nothing for a while.

        Who has only just come is not sent away before it could ask.
        """
        half = self.idle and self._in_head and self._head > 0
        patience = _PATIENCE if self.cycle is None else _TRUST
        return half or (self.waits and self.loop.time() - self._turn > patience)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.door.leave(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for the answer
        """Answer who asked and will say no more, then end; anybody else has left."""
        if self.waits:
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Count what arrives before it is parsed."""
        if self._over or self.transport.is_closing():
            self._dropped += len(data)
            if self._dropped > _AROUND_BODY:
                self.transport.abort()
            return
        self._counted = self._in_head
        if self._in_head:
            self._head += len(data)
            if self.late_from is None:
                self.late_from = self.loop.time()
        self._whole += len(data)
        super().data_received(data)
        if self._in_head and self._head > _HEAD:
            self._end(431, f"a request line and its headers may have {_HEAD:,} bytes")
        elif self._whole > 2 * self.door.settings.max_body + _AROUND_BODY:
            self._end(413, f"a body may have {self.door.settings.max_body:,} bytes")

    def on_message_begin(self) -> None:
        """Begin to count anew."""
        self._in_head, self._whole, self._size = True, 0, 0
        if not self._counted:  # it begins behind the body of another, in the same piece
            self._head = 0
        if self.late_from is None:
            self.late_from = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse headers, and what follows a body in pieces, that are too many or too large."""
        self._size += len(name) + len(value)
        if len(self.headers) >= _HEADERS or self._size > _HEAD:
            self._refused = 431
            raise ValueError("headers")  # the parser ends with a 400, which is turned below
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request on; from here the application keeps the time."""
        if len(self.url) > _HEAD // 2:
            self._refused = 431
            raise ValueError("address")
        named = _ABSOLUTE.match(self.url)
        if named and (b"host", named[1]) not in self.headers:
            self.headers.append((b"host", named[1]))  # a second one, where there is one
        self._in_head, self.late_from = False, None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is the head of another request."""
        super().on_message_complete()
        self._turn = self.loop.time()
        self._in_head, self._head, self._whole, self._counted = True, 0, 0, False

    def send_400_response(self, msg: str) -> None:
        """Tell what was wrong with the headers."""
        if self._refused:
            words = f"a request may have {_HEADERS} headers and {_HEAD:,} bytes before its body"
            self._end(self._refused, words)
        else:
            super().send_400_response(msg)

    def look_at_clock(self, now: float) -> None:
        """End a connection whose headers do not come, or whose answer nobody takes."""
        waited = 0.0 if self.late_from is None else now - self.late_from
        if self.idle and waited > self.door.settings.read_timeout:
            self._end(408, "the headers of the request did not arrive in time")
            return
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._stuck = unsent, now
        elif now - self._stuck > _STUCK:
            self.transport.abort()

    def _end(self, status: int, words: str) -> None:
        """Say why, where an answer has not begun, and hang up.

        Not at once: the client would see a reset instead of the answer to what it still sends.
        """
        if self._over or self.transport.is_closing():
            return
        self._over = True
        if self.idle:
            head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: text/plain\r\n"
            head += "retry-after: 1\r\n" if status == 503 else ""
            head += f"content-length: {len(words)}\r\nconnection: close\r\n\r\n"
            self.transport.write((head + words).encode())
            self.loop.call_later(_LINGER, self.transport.close)
        else:
            self.transport.close()


_PHRASES = {
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def guarded(settings: Settings) -> type[GuardedProtocol]:
    """Return a protocol for one server, with a door of its own."""
    members: dict[str, Any] = {"door": Door(settings)}
    return type("GuardedProtocol", (GuardedProtocol,), members)


def _descriptors() -> int:
    """Return how many files this process may open, raised as far as it is let."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _WANTED if soft == resource.RLIM_INFINITY else min(soft, _WANTED)
