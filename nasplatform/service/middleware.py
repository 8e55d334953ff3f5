"""The door of the application: everything that is checked before an endpoint is reached.

One plain ASGI layer does all of it, since every layer costs each request: an id for the request,
the host name, the key and its scope, the rate limit, the number of requests in progress, the size
of the body and the time it may take to arrive; and afterwards metrics and one line of log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import sys
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nasplatform import faults
from nasplatform.passwords import without_password
from nasplatform.service.logs import UnhurriedHandler
from nasplatform.service.metrics import Metrics
from nasplatform.service.models import log
from nasplatform.service.problems import MEDIA_TYPE, Problem, overloaded
from nasplatform.service.security import (
    ANONYMOUS,
    Caller,
    KeyFile,
    RateLimiter,
    is_loopback,
    network_of,
)
from nasplatform.service.settings import Settings

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PUBLIC_PATHS = ("/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d*)?")
_WRITE_PATHS = re.compile(r"/evaluations/?$")
_SINGLE = (b"host", b"authorization", b"content-length", b"content-type", b"content-encoding")
_DIGITS = 18  # of a length
_LINE = 2000  # characters of a line of a traceback
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
        b"base-uri 'none'; form-action 'none'",
    ),
]


class FrontDoor:
    """One for all that a service answers with; ``before`` an application it sees its requests."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._keys = KeyFile(settings.api_keys) if settings.api_keys else None
        self._limiter, self._strangers = RateLimiter(settings.rate), RateLimiter(settings.rate)
        self._active = 0

    def before(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose requests come through this door."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._serve(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit(scope, receive, send)
        self._active += 1
        try:
            try:
                visit.caller = self._admit(scope, visit.headers)
                scope["state"]["caller"] = visit.caller.id
                await app(scope, self._bounded(visit), visit.send)
            except Problem as problem:
                await visit.tell(problem)
            except asyncio.CancelledError:  # uvicorn's grace at the end of the service is over
                words = "the service is being stopped: ask again when it is back"
                await visit.tell(Problem(503, "stopping", words, {"Retry-After": "5"}))
            except Exception as error:
                log.exception("request failed", extra={"facts": {"id": visit.id}})
                detail = f"the request failed here; the log tells why under {visit.id}"
                if faults.in_words(error) is None:
                    await visit.tell(Problem(500, "internal", detail))
                else:  # a full disk, a folder that went away: a matter of time
                    await visit.tell(Problem(503, "storage", detail, {"Retry-After": "30"}))
        finally:
            self._active -= 1
            self._record(visit)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Caller:
        """Return who asks; raise Problem for whoever must stay outside."""
        settings, path = self._settings, scope["path"]
        if self._active > settings.max_requests and not path.startswith("/v2/health"):
            raise overloaded(1, f"{settings.max_requests} requests are in progress: try again")
        if len(headers) < len(scope["headers"]):
            _require_single(scope["headers"])
        if b"host" not in headers and scope["http_version"] == "1.1":
            raise Problem(400, "bad-request", "the header 'host' is missing")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > _DIGITS or int(length) > settings.max_body:
            raise _too_large(settings.max_body)
        if self._keys is None:
            _require_local_name(headers.get(b"host", b"").decode("latin-1"))
            return ANONYMOUS
        if path in _PUBLIC_PATHS or path.startswith("/static/"):
            return ANONYMOUS
        address = network_of((scope.get("client") or ("unknown",))[0])
        caller = self._identify(headers.get(b"authorization", b"").decode("latin-1"), address)
        self._require_turn(self._limiter, caller, f"key {caller.id!r}")
        needed = "write" if _WRITE_PATHS.search(path) and scope["method"] == "POST" else "read"
        if needed not in caller.scopes:
            raise Problem(403, "forbidden", f"key {caller.id!r} lacks the scope {needed!r}")
        return caller

    def _require_turn(self, limiter: RateLimiter, caller: Caller, who: str) -> None:
        wait = limiter.wait(caller)
        if wait:
            raise Problem(
                429,
                "rate-limit",
                f"{who} may ask {caller.rate or self._settings.rate:g} times a second",
                {"Retry-After": str(max(1, round(wait + 0.5)))},
            )

    def _identify(self, authorization: str, address: str) -> Caller:
        assert self._keys is not None
        kind, _, key = authorization.partition(" ")
        caller = self._keys.check(key.strip()) if kind.lower() == "bearer" else None
        if caller is None:
            nobody = Caller(address, frozenset())
            self._require_turn(self._strangers, nobody, f"{address}, without a known key,")
            words = "is not known" if authorization else "is missing"
            raise Problem(
                401,
                "no-key",
                f"the key {words}: send the header 'Authorization: Bearer KEY'",
                {"WWW-Authenticate": "Bearer"},
            )
        return caller

    def _bounded(self, visit: _Visit) -> Receive:
        """Return a ``receive`` that raises Problem for a body too large or too slow."""
        limit, seconds = self._settings.max_body, self._settings.read_timeout
        got, complete = 0, False
        until = visit.started + seconds

        async def receive() -> Message:
            nonlocal got, complete
            if complete:  # now it waits for the client to hang up, as long as that takes
                return await visit.receive()
            try:
                async with asyncio.timeout(max(0.0, until - time.perf_counter())):
                    message = await visit.receive()
            except TimeoutError:
                raise Problem(
                    408, "body-too-slow", f"the body did not arrive within {seconds:g} s"
                ) from None
            got += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if got > limit:
                raise _too_large(limit)
            return message

        return receive

    def _record(self, visit: _Visit) -> None:
        seconds = time.perf_counter() - visit.started
        route = visit.scope.get("route")
        endpoint = f"{visit.scope['method']} {getattr(route, 'path', None) or 'other'}"
        self._metrics.request(endpoint, visit.status, seconds)
        if log.isEnabledFor(logging.INFO):
            facts = {
                "id": visit.id,
                "endpoint": endpoint,
                "status": visit.status,
                "ms": round(seconds * 1000, 2),
                "key": visit.caller.id if visit.caller else None,
                **visit.scope["state"].get("facts", {}),
            }
            log.info("request", extra={"facts": facts})


class _Visit:
    """One request on its way through: its id, its status, its headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self._send = scope, receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = (
            given.decode() if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        )
        self.started = time.perf_counter()
        self.status = 499  # the client went away before an answer
        self.caller: Caller | None = None
        self._begun = False
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._begun = message["status"], True
            own = [*_HEADERS, (b"x-request-id", self.id.encode())]
            message["headers"] = [*message.get("headers", []), *own]
        await self._send(message)

    async def tell(self, problem: Problem) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self._begun:
            return
        body = problem.body(self.id, self.scope["path"].startswith("/v2"))
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
        if problem.status in (408, 413):
            headers["connection"] = "close"  # the rest of the body is not read
        pairs = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body})


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "body-too-large",
        f"a body may have {limit:,} bytes: send fewer architectures at once, as compact texts",
    )


def _require_single(headers: list[tuple[bytes, bytes]]) -> None:
    """Two values of a header that decides something: others may have looked at the other one."""
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise Problem(400, "bad-request", f"the header {name.decode()!r} stands there twice")


def _require_local_name(host: str) -> None:
    """A web page elsewhere must not reach a service without keys under a name of its own."""
    found = _HOST.fullmatch(host)
    name = found[1] if found else host
    if name and not is_loopback(name):
        raise Problem(
            403,
            "host-not-allowed",
            f"without keys the service answers to localhost only, not to {name!r:.60}",
        )


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; whatever is in ``facts`` stands beside the message."""
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            told = self.formatException(record.exc_info).splitlines()
            line["exception"] = "\n".join(without_password(each[:_LINE]) for each in told)
        return json.dumps(line, default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write the log of the service to stderr as JSON lines."""
    handler: logging.Handler
    try:
        handler = UnhurriedHandler(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # replaced by something without a descriptor
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
