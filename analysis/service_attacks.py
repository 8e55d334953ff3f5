"""How a service bears what is meant to stop it: the time of a health check during each attack.

    python analysis/service_attacks.py [--seed 1] [--seconds 4] [--out attacks.json]

Each attack runs against a server of its own in another process. Told are the median and the worst
time of a health check while the attack runs (milliseconds), by how much the server's memory grew
(MiB), how many bytes were sent and came back in all, and which statuses were answered.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from load_generator import HOST
from load_servers import free_port, make_store, memory, ours, served

LIMIT = (4 << 20) - 64
CHECK = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
Attack = Callable[[random.Random], Iterator[bytes]]


def post(body: bytes, path: str = "/v1/predictors/demo/predict", more: bytes = b"") -> bytes:
    """Return a whole request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n".encode()
    return head + b"content-type: application/json\r\n" + more + b"\r\n" + body


def filled(item: bytes, key: bytes = b"architectures") -> bytes:
    """Return the largest body of one item again and again."""
    count = LIMIT // (len(item) + 1) - 8
    return b'{"' + key + b'": [' + b",".join([item] * count) + b"]}"


def bodies(random_: random.Random) -> Iterator[bytes]:
    """Yield large bodies of few and of many values."""
    depth, size = random_.randint(40, 160), random_.randint(1, 300)
    digit = str(random_.randint(0, 9)).encode()
    yield post(filled(digit))
    yield post(filled(b"[" * depth + b"]" * depth))
    yield post(filled(b'{"a":' + digit + b"}"))
    yield post(filled(b'"' + b"x" * size + b'"'))
    yield post(b'{"architectures": ["' + b"[" * LIMIT + b'"]}')
    yield post(filled(b'{"score":1}', b"evaluations"), "/v1/predictors/demo/evaluations")
    yield post(gzip.compress(b" " * (1 << 28)), more=b"content-encoding: gzip\r\n")


def heads(random_: random.Random) -> Iterator[bytes]:
    """Yield headers that are too large or too many."""
    first = CHECK[:-2]
    yield first + b"x: " + b"y" * (40 << 20)
    yield first + b"x: y\r\n" * random_.randint(100_000, 1_000_000)
    yield b"GET /" + b"y" * (40 << 20)
    chunked = first.replace(b"GET", b"POST") + b"transfer-encoding: chunked\r\n\r\n"
    yield chunked + b"1\r\nx\r\n0\r\n" + b"x: y\r\n" * 200_000


def errors(random_: random.Random) -> Iterator[bytes]:
    """Yield many bad architectures."""
    bad = bytes(random_.choices(b"abcxyz[]", k=1))
    plain = b"content-type: text/plain\r\n"
    yield post(bad + (b"\n" + bad) * 49_999).replace(b"content-type: application/json\r\n", plain)
    yield post(json.dumps({"architectures": ["x" * 70_000] * 50}).encode())


ATTACKS: dict[str, Attack] = {"bodies": bodies, "headers": heads, "errors": errors}


class Tally:
    """What was sent and answered."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.sent = self.came = 0

    def ask(self, port: int, data: bytes) -> None:
        """Send bytes on a connection of their own; count what comes until it is closed."""
        found = b""
        with suppress(OSError), socket.create_connection((HOST, port), timeout=20) as one:
            with suppress(OSError):
                one.sendall(data)
                self.sent += len(data)
                one.shutdown(socket.SHUT_WR)
            while part := one.recv(1 << 16):
                found = found or part
                self.came += len(part)
        self.statuses[found[9:12].decode("latin-1") or "closed"] += 1


def halves(port: int, over: threading.Event) -> None:
    """Hold half requests open, as many as there are descriptors for."""
    held: list[socket.socket] = []
    while not over.is_set():
        try:
            one = socket.create_connection((HOST, port), timeout=5)
            one.sendall(CHECK[:-2])
            held = [*held[-900:], one]
        except OSError:
            time.sleep(0.05)
    for one in held:
        one.close()


def checked(port: int) -> float:
    """Return the seconds of one health check on a connection of its own."""
    begun = time.perf_counter()
    with socket.create_connection((HOST, port), timeout=30) as one:
        one.sendall(CHECK)
        if not one.recv(100).startswith(b"HTTP/1.1 200"):
            raise SystemExit("the service is not well")
    return time.perf_counter() - begun


def measure(store: Path, name: str, seed: int, seconds: float) -> dict[str, object]:
    """Attack a server for some seconds; return what was seen."""
    port = free_port()
    arguments = ours(store, port, "reference=5000")
    with served(arguments, port) as process:
        over, tally = threading.Event(), Tally()

        def attack() -> None:
            if name == "halves":
                halves(port, over)
                return
            random_ = random.Random(seed)
            while not over.is_set():
                for data in ATTACKS[name](random_):
                    if not over.is_set():
                        tally.ask(port, data)

        before, most = memory(process), 0.0
        thread = threading.Thread(target=attack)
        thread.start()
        times = []
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(times) < 20:
            times.append(checked(port) * 1000)
            most = max(most, memory(process))
            time.sleep(0.02)
        over.set()
        thread.join()
    return {
        "checks": len(times),
        "median_ms": round(statistics.median(times), 1),
        "worst_ms": round(max(times), 1),
        "grown_mib": round(most - before),
        "sent": tally.sent,
        "came": tally.came,
        "statuses": dict(tally.statuses),
    }


def main() -> None:
    """Run every attack and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        make_store(store, "trees", 60)
        for name in (*ATTACKS, "halves"):
            found[name] = measure(store, name, asked.seed, asked.seconds)
            sys.stdout.write(f"{name}: {json.dumps(found[name])}\n")
            sys.stdout.flush()
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
