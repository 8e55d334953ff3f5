"""A predictor, and a real server on the loopback interface, for the tests of the service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import uvicorn

from nasplatform.predictors import Predictor
from nasplatform.service import PredictorStore, Settings, create_app
from nasplatform.service.labels import Labels
from nasplatform.service.server import bound, server_config
from nasplatform.spaces import Space

PREDICT = "/v1/predictors/demo/predict"
BINARY = "application/octet-stream"


class Fitted(NamedTuple):
    predictor: Predictor
    space: Space
    labels: Labels


class Running(NamedTuple):
    url: str
    http: httpx.Client
    store: PredictorStore


@contextmanager
def serving(store: PredictorStore, **settings: object) -> Iterator[Running]:
    """A real server on a free port of the loopback interface."""
    options = {"reference": 2000, "reload": 0.2, **settings}
    valid = Settings.model_validate(options)
    server = uvicorn.Server(server_config(create_app(store, valid), valid))
    socket = bound("127.0.0.1", 0)
    socket.listen(2048)  # from here on a connection waits for the server
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=30) as http:
            until(lambda: http.get("/v2/health/ready").status_code == 200)
            yield Running(url, http, store)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def problem(answer, status, kind):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"urn:nasplatform:problem:{kind}"
    assert body["instance"].endswith(answer.headers["x-request-id"])
    return body["detail"]
