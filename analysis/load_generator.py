"""The load of ``service_load``: raw asyncio connections, kept alive, and what they ask for."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HOST = "127.0.0.1"
PREDICT = "/v1/predictors/demo/predict"
Result = dict[str, Any]
_LATE = 0.0015  # seconds that a timer of the event loop may be late: it counts whole milliseconds


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection; one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that nothing will come."""
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    def data_received(self, data: bytes) -> None:
        """Answer once the whole body is here."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if length is None or len(body) < int(length[1]):
            return
        self._buffer = b""
        if b"connection: close" in head.lower():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    async def ask(self, request: bytes) -> int:
        """Send a request; return the status, 0 for a connection that broke."""
        if self.closed:
            return 0
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()


@dataclass
class Tally:
    """Statuses (0: broken connection) and the latencies of the good answers, in seconds."""

    codes: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, code: int, latency: float) -> None:
        """Count an answer."""
        self.codes[code] += 1
        if code == 200:
            self.latencies.append(latency)

    def summary(self, per_request: int = 1) -> Result:
        """Return rates and quantiles."""
        done = np.array(self.latencies or [np.nan])
        names = {"median_ms": 50, "p95_ms": 95, "p99_ms": 99}
        return {
            "codes": {str(code): count for code, count in sorted(self.codes.items())},
            "per_second": round(per_request * self.codes[200] / self.seconds, 1),
            **{k: round(float(np.percentile(done, q)) * 1000, 2) for k, q in names.items()},
        }


async def connect(port: int) -> Connection:
    """Open a connection."""
    _, made = await asyncio.get_running_loop().create_connection(Connection, HOST, port)
    return made


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """Open some connections, close them at the end."""
    opened = [await connect(port) for _ in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


async def closed_loop(port: int, clients: int, seconds: float, requests: Iterator[bytes]) -> Tally:
    """Let each client ask again as soon as it is answered."""
    tally = Tally()
    async with connections(port, clients) as opened:
        begun = time.perf_counter()

        async def client(connection: Connection) -> None:
            while (start := time.perf_counter()) < begun + seconds and not connection.closed:
                code = await connection.ask(next(requests))
                tally.add(code, time.perf_counter() - start)

        await asyncio.gather(*map(client, opened))
        tally.seconds = time.perf_counter() - begun
    return tally


async def open_loop(
    port: int, rate: float, seconds: float, requests: Iterator[bytes], most: int = 400
) -> Tally:
    """Ask at a fixed rate, whatever the answers; latency counts from when a request was due.

    most: connections; a request that finds none of them free waits on our side.
    """
    tally = Tally()
    async with connections(port, min(most, 32)) as opened:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for one in opened:
            free.put_nowait(one)
        tasks: set[asyncio.Task[None]] = set()

        async def visit(due: float) -> None:
            if free.empty() and len(opened) < most:
                opened.append(connection := await connect(port))
            else:
                connection = await free.get()
            if connection.closed:
                opened.append(connection := await connect(port))
            code = await connection.ask(next(requests))
            tally.add(code, time.perf_counter() - due)
            free.put_nowait(connection)

        begun = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            if number % 16 == 0:
                await asyncio.sleep(0)
            while (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(max(0.0, wait - _LATE))
            tasks.add(task := asyncio.create_task(visit(due)))
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=60)
        tally.seconds = time.perf_counter() - begun
    return tally


def http(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """Return the bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Texts:
    """Some 160,000 architectures in turn, without end, as texts or as codes."""

    def __init__(self, seed: int = 0) -> None:
        from nasplatform.spaces import get_space

        space = get_space("nasbench101")
        drawn = space.sample(200_000, np.random.default_rng(seed))
        cells = drawn[np.sort(np.unique(drawn.keys, return_index=True)[1])]
        self._texts, self._codes = [space.format(cell) for cell in cells], cells.codes
        self._at = 0

    def take(self, count: int) -> list[str]:
        """Return the next ones."""
        return self._texts[self._next(count)]

    def _next(self, count: int) -> slice:
        if self._at + count > len(self._texts):
            self._at = 0
        self._at += count
        return slice(self._at - count, self._at)

    def ours(self) -> Iterator[bytes]:
        """Yield requests for one architecture to the service, full answers."""
        while True:
            yield http(PREDICT, json.dumps({"architectures": self.take(1)}).encode())

    def lean(self) -> Iterator[bytes]:
        """Yield requests for one architecture that ask for what LitServe gives."""
        while True:
            body = {"architectures": self.take(1), "include": ["std"]}
            yield http(PREDICT, json.dumps(body).encode())

    def batches(self, size: int, kind: str) -> Iterator[bytes]:
        """Yield requests for many architectures that ask for mean and deviation.

        kind: ``json``, ``text`` (compact texts, a line each), or ``codes`` (8 bytes each).
        """
        path = f"{PREDICT}?include=std"
        while True:
            if kind == "text":
                yield http(path, "\n".join(self.take(size)).encode(), "text/plain")
            elif kind == "codes":
                codes = self._codes[self._next(size)].astype("<u8").tobytes()
                yield http(path, codes, "application/octet-stream")
            else:
                asked = {"architectures": self.take(size), "include": ["std"], "layout": "columns"}
                yield http(PREDICT, json.dumps(asked).encode())

    def lit(self) -> Iterator[bytes]:
        """Yield requests for one architecture to LitServe."""
        while True:
            yield http("/predict", json.dumps({"architecture": self.take(1)[0]}).encode())
