"""How fast the service is and how it bears a crowd, beside a minimal LitServe server.

    python analysis/service_load.py --out service_load.json              # some minutes
    python analysis/service_load.py --soak 600 --only soak overload      # the long one

Both servers answer from the same saved predictor, one after the other on this machine, asked by
the same generator (raw asyncio connections, kept alive). LitServe is measured where it is
installed (``pip install litserve``), with and without its batching. Labels are a smooth function
of the cost: what is measured is time. Some 160,000 architectures are asked in turn, so that the
cache helps little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

try:
    from litserve import LitAPI  # type: ignore[import-not-found,unused-ignore]
except ModuleNotFoundError:
    LitAPI = object

HOST = "127.0.0.1"
PREDICT = "/v1/predictors/demo/predict"
SCENARIOS = ("single", "clients", "batches", "ranked", "soak", "overload", "refit")
Result = dict[str, Any]


# --- the generator


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
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)
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
    """Some 160,000 architectures in turn, without end."""

    def __init__(self, seed: int = 0) -> None:
        from nasplatform.spaces import get_space

        space = get_space("nasbench101")
        drawn = space.sample(200_000, np.random.default_rng(seed))
        cells = drawn[np.sort(np.unique(drawn.keys, return_index=True)[1])]
        self._texts = [space.format(cell) for cell in cells]
        self._at = 0

    def take(self, count: int) -> list[str]:
        """Return the next ones."""
        if self._at + count > len(self._texts):
            self._at = 0
        self._at += count
        return self._texts[self._at - count : self._at]

    def ours(self) -> Iterator[bytes]:
        """Yield requests for one architecture to the service, full answers."""
        while True:
            yield http(PREDICT, json.dumps({"architectures": self.take(1)}).encode())

    def lean(self) -> Iterator[bytes]:
        """Yield requests for one architecture that ask for what LitServe gives."""
        while True:
            body = {"architectures": self.take(1), "include": ["std"]}
            yield http(PREDICT, json.dumps(body).encode())

    def batches(self, size: int, text: bool) -> Iterator[bytes]:
        """Yield requests for many compact texts that ask for mean and deviation."""
        while True:
            if text:
                body = "\n".join(self.take(size)).encode()
                yield http(f"{PREDICT}?include=std", body, "text/plain")
            else:
                asked = {"architectures": self.take(size), "include": ["std"], "layout": "columns"}
                yield http(PREDICT, json.dumps(asked).encode())

    def lit(self) -> Iterator[bytes]:
        """Yield requests for one architecture to LitServe."""
        while True:
            yield http("/predict", json.dumps({"architecture": self.take(1)[0]}).encode())


# --- the servers


@contextmanager
def served(arguments: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, from when its port answers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port, process)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the health check answers."""
    import httpx

    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}")
        for path in ("/v2/health/ready", "/health"):
            try:
                if httpx.get(f"http://{HOST}:{port}{path}", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
    raise SystemExit("the server does not answer")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


class LitPredictor(LitAPI):  # type: ignore[misc]
    """The same predictor the way LitServe's documentation shows, batching or not."""

    folder = ""

    def setup(self, device: str) -> None:
        """Load the predictor; called in the worker process."""
        import torch

        from nasplatform.runs.saved import load_predictor

        torch.set_num_threads(1)
        self.predictor, self.space = load_predictor(self.folder)

    def decode_request(self, request: dict[str, str]) -> str:
        """Take the text out."""
        return request["architecture"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Keep the texts as they are."""
        return list(inputs)

    def predict(self, texts: str | list[str]) -> Any:
        """Score one text, or a batch."""
        many = [texts] if isinstance(texts, str) else texts
        population, _ = self.space.parse_many(many)
        said = self.predictor.predict(self.space.graphs(population))
        pairs = list(zip(said.mean.tolist(), said.std.tolist(), strict=True))
        return pairs[0] if isinstance(texts, str) else pairs

    def unbatch(self, output: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Hand out the pairs."""
        return output

    def encode_response(self, output: tuple[float, float]) -> dict[str, float]:
        """Name the numbers."""
        return {"mean": output[0], "std": output[1]}


def run_litserve(folder: str, port: int, batch: int) -> None:
    """Serve until killed."""
    import litserve

    api = LitPredictor(max_batch_size=batch, batch_timeout=0.001)
    api.folder = folder
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=port, generate_client_file=False, log_level="error")


def make_store(folder: Path, name: str, labels: int) -> Path:
    """Fit a predictor and publish it; return the folder of the version."""
    from nasplatform.predictors import get_predictor
    from nasplatform.service import PredictorStore
    from nasplatform.service.labels import Labels
    from nasplatform.spaces import get_space

    space = get_space("nasbench101")
    cells = space.sample(labels, np.random.default_rng(0))
    graphs = space.graphs(cells)
    noise = np.random.default_rng(1).normal(0, 0.003, labels)
    scores = 0.9 + 0.04 * np.tanh(graphs.total_params / 1.5e7 - 0.5) + noise
    predictor = get_predictor(name).fit(graphs, scores)
    measured = Labels([space.format(cell) for cell in cells], scores)
    return PredictorStore(folder).publish("demo", predictor, space, measured).folder


def cpu(group: int) -> float:
    """Return the CPU seconds that a process group has spent so far.

    On a machine that others use as well this tells more than the clock does.
    """
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(process: subprocess.Popen[bytes]) -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return round(int(found[1]) / 1024, 1) if found else float("nan")


# --- the scenarios


def single(port: int, texts: Texts, options: argparse.Namespace, make: str = "ours") -> Result:
    """Ask for one architecture 50 times a second."""
    requests = getattr(texts, make)()
    warm = asyncio.run(closed_loop(port, 2, 1, requests))
    tally = asyncio.run(open_loop(port, 50, options.seconds, requests))
    return {**tally.summary(), "answers": warm.codes[200] + tally.codes[200]}


def clients(port: int, texts: Texts, options: argparse.Namespace, make: str = "lean") -> Result:
    """Let 32 clients ask for one architecture each, again and again."""
    requests = getattr(texts, make)()
    warm = asyncio.run(closed_loop(port, 32, 1, requests))
    tally = asyncio.run(closed_loop(port, 32, options.seconds, requests))
    return {**tally.summary(), "answers": warm.codes[200] + tally.codes[200]}


def batches(port: int, texts: Texts, options: argparse.Namespace) -> Result:
    """Ask for 1,000 compact texts at once."""
    found: Result = {}
    answers = 0
    for name, count, text in [("json_1", 1, False), ("json_4", 4, False), ("text_4", 4, True)]:
        requests = texts.batches(1000, text)
        warm = asyncio.run(closed_loop(port, 1, 0.5, requests))
        tally = asyncio.run(closed_loop(port, count, options.seconds, requests))
        found[f"{name}_clients"] = tally.summary(1000)
        answers += warm.codes[200] + tally.codes[200]
    return {**found, "answers": answers}


def wait_until_ranked(port: int) -> float:
    """Wait until the service has no work in the background; return the seconds."""
    import httpx

    begun, url = time.perf_counter(), f"http://{HOST}:{port}/v1/predictors/demo"
    while not httpx.get(url, timeout=60).json()["view"]["complete"]:
        if time.perf_counter() - begun > 900:
            raise SystemExit("the space was not ranked within 900 s")
        time.sleep(1)
    return round(time.perf_counter() - begun, 1)


def ranked(port: int, texts: Texts, options: argparse.Namespace) -> Result:
    """Do these again once the whole space is ranked: then its architectures are looked up."""
    return {work.__name__: work(port, texts, options) for work in (single, clients, batches)}


def highest(port: int, texts: Texts) -> float:
    """Return the highest rate of requests for one architecture that is answered, per second."""
    tally = asyncio.run(closed_loop(port, 64, 5, texts.ours()))
    return tally.codes[200] / tally.seconds


def soak(
    port: int, texts: Texts, options: argparse.Namespace, process: subprocess.Popen[bytes]
) -> Result:
    """Ask at 80 % of the highest rate for long; watch the memory."""
    rate = 0.8 * highest(port, texts)
    before, part = memory(process), max(options.soak / 5, 1.0)
    codes: Counter[int] = Counter()
    trail = []
    tally = Tally()
    for _ in range(5):
        tally = asyncio.run(open_loop(port, rate, part, texts.ours()))
        codes.update(tally.codes)
        trail.append(memory(process))
    return {
        "rate": round(rate, 1),
        **tally.summary(),
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "memory_mib": [before, *trail],
    }


def overload(
    port: int, texts: Texts, options: argparse.Namespace, process: subprocess.Popen[bytes]
) -> Result:
    """Ask at three times the highest rate, then look how soon it is quick again."""
    rate = 3 * highest(port, texts)
    tally = asyncio.run(open_loop(port, rate, options.seconds, texts.ours(), most=900))
    ended = time.perf_counter()
    while True:
        calm = asyncio.run(open_loop(port, 20, 0.5, texts.ours()))
        after = time.perf_counter() - ended
        quick = set(calm.codes) == {200} and np.median(calm.latencies) < 0.05
        if quick or after > 30:
            break
    return {
        "rate": round(rate, 1),
        **tally.summary(),
        "recovered_after_s": round(after, 2),
        "alive": process.poll() is None,
        "memory_mib": memory(process),
    }


def refit(port: int, texts: Texts, options: argparse.Namespace) -> Result:
    """Ask at half the highest rate while a new version is fitted."""
    import httpx

    rate, base = 0.5 * highest(port, texts), f"http://{HOST}:{port}/v1/predictors/demo"
    measured = [{"architecture": text, "score": 0.9} for text in texts.take(3)]
    body = {"evaluations": measured, "refit": True}
    httpx.post(f"{base}/evaluations", json=body, timeout=60).raise_for_status()
    codes: Counter[int] = Counter()
    tally = Tally()
    begun = time.perf_counter()
    state = {"state": "running"}
    while state["state"] == "running" and time.perf_counter() - begun < 300:
        tally = asyncio.run(open_loop(port, rate, 3, texts.ours()))
        codes.update(tally.codes)
        state = httpx.get(f"{base}/refit", timeout=60).json()
    return {
        "rate": round(rate, 1),
        **tally.summary(),
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "state": state,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def measure_ours(folder: Path, texts: Texts, options: argparse.Namespace) -> Result:
    """Run every scenario against the service."""
    port = free_port()
    found: Result = {}
    run = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = ["-c", run, "serve", "--predictors", str(folder), "--port", str(port), "--quiet"]
    few = [] if "ranked" in options.only else ["--set", "reference=5000"]
    with served([*command, *few], port) as process:
        found["ranked_after_s"] = wait_until_ranked(port)
        simple: dict[str, Callable[[int, Texts, argparse.Namespace], Result]] = {
            "single": single, "clients": clients, "batches": batches, "ranked": ranked,
            "refit": refit,
        }  # fmt: skip
        for name in options.only:
            if name in simple:
                before = cpu(process.pid)
                found[name] = simple[name](port, texts, options)
                found[name]["cpu_s"] = round(cpu(process.pid) - before, 2)
            else:
                watched = {"soak": soak, "overload": overload}[name]
                found[name] = watched(port, texts, options, process)
            tell(f"service, {name}", found[name])
    return found


def measure_litserve(
    version: Path, batch: int, texts: Texts, options: argparse.Namespace
) -> Result:
    """Run the two scenarios that LitServe takes part in."""
    port, found = free_port(), {}
    command = [__file__, "--litserve", str(version), str(port), str(batch)]
    with served(command, port) as process:
        for name, work in (("single", single), ("clients", clients)):
            if name in options.only:
                before = cpu(process.pid)
                found[name] = work(port, texts, options, "lit")
                found[name]["cpu_s"] = round(cpu(process.pid) - before, 2)
                tell(f"LitServe, batches of {batch}, {name}", found[name])
    return found


def without(options: argparse.Namespace, name: str) -> argparse.Namespace:
    """Return the options less a scenario."""
    left = [one for one in options.only if one != name]
    return argparse.Namespace(**{**vars(options), "only": left})


def tell(title: str, result: Result) -> None:
    """Print a result, with the CPU milliseconds of the server for each answer."""
    if "answers" in result:
        result["cpu_ms_per_answer"] = round(1000 * result["cpu_s"] / max(result["answers"], 1), 3)
    print(f"{title}: {json.dumps(result)}", flush=True)


def main() -> None:
    """Measure; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--predictor", default="default")
    parser.add_argument("--labels", type=int, default=424)
    parser.add_argument("--seconds", type=float, default=15, help="of a scenario")
    parser.add_argument("--soak", type=float, default=60, help="seconds of the long scenario")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--litserve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.litserve:
        run_litserve(options.litserve[0], int(options.litserve[1]), int(options.litserve[2]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended, too
    texts = Texts()
    with tempfile.TemporaryDirectory() as folder:
        version = make_store(Path(folder), options.predictor, options.labels)
        found: Result = {
            "predictor": options.predictor,
            "labels": options.labels,
            "cores": os.cpu_count(),
            "load_before": os.getloadavg(),
            "service": measure_ours(Path(folder), texts, without(options, "ranked")),
        }
        if "ranked" in options.only:
            alone = argparse.Namespace(**{**vars(options), "only": ["ranked"]})
            found["service"] |= measure_ours(Path(folder), texts, alone)
        if LitAPI is object:
            print("LitServe is not installed: not compared")
        else:
            for batch in (1, 32):
                name = f"litserve_batch_{batch}"
                found[name] = measure_litserve(version, batch, texts, options)
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
