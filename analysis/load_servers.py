"""The servers of ``service_load``: ours, and a minimal LitServe server with the same predictor.

python analysis/load_servers.py PREDICTOR PORT BATCH       # the LitServe server, until killed
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from load_generator import HOST

try:
    from litserve import LitAPI  # type: ignore[import-not-found,unused-ignore]  # may be missing
except ModuleNotFoundError:
    LitAPI = object
COMPARED = LitAPI is not object


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
        with suppress(ProcessLookupError):  # it may have been killed on purpose
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


class LitPredictor(LitAPI):  # type: ignore[misc]  # then it is any object
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


def ours(folder: Path, port: int, *settings: str) -> list[str]:
    """Return the arguments of Python that serve a store."""
    run = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = ["-c", run, "serve", "--predictors", str(folder), "--port", str(port), "--quiet"]
    return [*command, *(word for text in settings for word in ("--set", text))]


def litserve(version: Path, port: int, batch: int) -> list[str]:
    """Return the arguments of Python that serve a saved predictor with LitServe."""
    return [__file__, str(version), str(port), str(batch)]


if __name__ == "__main__":
    run_litserve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
