from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest
from served import serving

from nasplatform.errors import ArchitectureError, ConfigError, NasplatformError
from nasplatform.service import AsyncPredictorClient, PredictorClient
from nasplatform.service.client import (
    RequestRejectedError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from nasplatform.service.security import add_key
from nasplatform.spaces import get_space


class Sync:
    """The plain client."""

    def __init__(self, url, name, **options):
        self.client = PredictorClient(url, name, **options)

    def __getattr__(self, method):
        return getattr(self.client, method)


class Async:
    """The client of an event loop, used like the plain one."""

    def __init__(self, url, name, **options):
        self.options = (url, name), options

    def __getattr__(self, method):
        async def call(*positional, **named):
            where, options = self.options
            async with AsyncPredictorClient(*where, **options) as client:
                return await getattr(client, method)(*positional, **named)

        return lambda *positional, **named: asyncio.run(call(*positional, **named))


both = pytest.mark.parametrize("kind", [Sync, Async])


@pytest.fixture
def no_waiting(monkeypatch):
    waits = []
    monkeypatch.setattr("nasplatform.service.client._sleep", waits.append)

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr("nasplatform.service.client._sleep_in_loop", sleep)
    return waits


def scripted(kind, *answers, **options):
    """A client whose service gives these answers, one after the other; and its requests."""
    requests, left = [], list(answers)

    def handle(request):
        requests.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    transport = httpx.MockTransport(handle)
    return kind("http://localhost", "demo", transport=transport, **options), requests


def said(*means):
    columns = {"mean": list(means), "std": [0.5] * len(means)}
    return httpx.Response(200, json={"columns": columns, "errors": []})


def busy(status=503, **headers):
    return httpx.Response(status, json={"detail": "busy"}, headers=headers)


@both
def test_the_clients_answer_like_the_predictor(service, fitted, kind):
    cells = fitted.space.sample(50, np.random.default_rng(1))
    local = fitted.predictor.predict(fitted.space.graphs(cells))
    client = kind(service.url, "demo", batch_size=7)
    remote = client.predict(cells)
    np.testing.assert_allclose(remote.mean, local.mean, rtol=1e-5)
    np.testing.assert_allclose(remote.std, local.std, rtol=1e-3)
    assert len(client.predict([])) == 0
    rows = client.describe([*map(fitted.space.format, cells), "nix"])
    assert [row["index"] for row in rows] == list(range(51))
    assert [row["hash"] for row in rows[:50]] == cells.hashes
    assert "expected" in rows[50]["error"]


@both
def test_a_bad_text_is_named_by_its_place_in_all_batches(service, kind):
    with pytest.raises(ArchitectureError, match="architecture 5: expected"):
        kind(service.url, "demo", batch_size=3).predict(["[]1"] * 5 + ["nix"])


@both
def test_a_full_service_is_asked_again_when_it_says(kind, no_waiting):
    answers = [busy(**{"Retry-After": "3"}), busy(429), httpx.ConnectError("away"), said(1.0)]
    client, requests = scripted(kind, *answers)
    assert client.predict(["[]1"]).mean.tolist() == [1.0]
    assert len(requests) == 4
    assert 3 <= no_waiting[0] < 4
    assert 0 < no_waiting[1] < no_waiting[2] * 4


@both
def test_after_the_last_retry_it_is_told(kind, no_waiting):
    client, requests = scripted(kind, *[busy()] * 3, retries=2)
    with pytest.raises(ServiceUnavailableError, match="503 busy"):
        client.predict(["[]1"])
    assert len(requests) == 3
    client, _ = scripted(kind, *[httpx.ReadTimeout("slow")] * 2, retries=1)
    with pytest.raises(ServiceUnavailableError, match="ReadTimeout: slow"):
        client.card()


@both
def test_a_report_that_may_have_arrived_is_not_repeated(kind, no_waiting):
    for answer in (httpx.ReadTimeout("slow"), busy(502)):
        client, requests = scripted(kind, answer, said())
        with pytest.raises(ServiceUnavailableError):
            client.report(["[]1"], [0.5])
        assert len(requests) == 1
    client, requests = scripted(kind, busy(), httpx.Response(200, json={"accepted": 1}))
    assert client.report(["[]1"], [0.5]) == {"accepted": 1}
    assert json.loads(requests[1].content) == {
        "evaluations": [{"architecture": "[]1", "score": 0.5}],
        "refit": False,
    }


@both
def test_large_populations_go_in_batches(kind):
    client, requests = scripted(kind, said(1.0, 2.0), said(3.0, 4.0), said(5.0), batch_size=2)
    assert client.predict(["[]1"] * 5).mean.tolist() == [1, 2, 3, 4, 5]
    assert [len(json.loads(r.content)["architectures"]) for r in requests] == [2, 2, 1]


@both
def test_the_key_and_the_version_go_along(kind, monkeypatch):
    monkeypatch.setenv("NASPLATFORM_API_KEY", "from-the-environment")
    client, requests = scripted(kind, said(1.0), version=3)
    client.predict(["[]1"])
    assert requests[0].url.path == "/v1/predictors/demo@3/predict"
    assert requests[0].headers["authorization"] == "Bearer from-the-environment"


@both
def test_an_unknown_predictor_is_a_rejected_request(service, kind):
    with pytest.raises(RequestRejectedError, match="unknown predictor 'nix'") as caught:
        kind(service.url, "nix").predict(["[]1"])
    assert caught.value.problem["status"] == 404
    assert isinstance(caught.value, NasplatformError)


@both
def test_nobody_there_is_told_with_the_address(kind):
    with pytest.raises(ServiceUnavailableError, match=r"GET http://127\.0\.0\.1:9/v1"):
        kind("http://127.0.0.1:9", "demo", retries=0).card()


def test_keys_suggestions_and_reports(store, tmp_path):
    scopes = frozenset({"read"})
    key = add_key(tmp_path / "keys.json", "me", scopes)
    with serving(store, api_keys=tmp_path / "keys.json") as running:
        with (
            PredictorClient(running.url, "demo") as stranger,
            pytest.raises(ServiceRefusedError, match="401"),
        ):
            stranger.predict(["[]1"])
        with PredictorClient(running.url, "demo", key=key, retries=8) as client:
            found = client.suggest(3, max_params=5_000_000, exclude=["[]1"])
            assert len(found) == 3
            assert all(one["params"] <= 5_000_000 for one in found)
            assert client.card()["version"] == 1
            assert client.refit_state()["state"] == "none"
            with pytest.raises(ServiceRefusedError, match="lacks the scope 'write'"):
                client.report(["[]1"], [0.5])


@both
def test_a_population_travels_as_codes(kind, service, fitted):
    cells = fitted.space.sample(23, np.random.default_rng(9))
    local = fitted.predictor.predict(fitted.space.graphs(cells))
    client = kind(service.url, "demo", batch_size=10)
    said = client.predict(cells)
    np.testing.assert_allclose(said.mean, local.mean, rtol=1e-5)
    np.testing.assert_allclose(said.std, local.std, rtol=1e-3)
    np.testing.assert_allclose(client.predict(list(cells)).mean, local.mean, rtol=1e-5)
    assert len(client.predict(cells[:0])) == 0
    strangers = get_space("nasbench201").sample(3, np.random.default_rng(0))
    with pytest.raises(ArchitectureError, match="of another one"):
        client.predict(strangers)
    broken = fitted.space.from_codes(np.array([cells.labels[0], 0], np.uint64))
    with pytest.raises(ArchitectureError, match="architecture 1"):
        client.predict(broken)


def test_an_empty_key_is_none_and_no_other(service, monkeypatch):
    monkeypatch.setenv("NASPLATFORM_API_KEY", "secret")
    assert "authorization" not in PredictorClient(service.url, "demo", key="")._http.headers
    assert PredictorClient(service.url, "demo")._http.headers["authorization"] == "Bearer secret"


@both
@pytest.mark.parametrize(
    "answer",
    [
        {"text": "<html>welcome</html>"},
        {"json": []},
        {"json": {"columns": [], "errors": []}},
        {"json": {"columns": {"mean": ["x"], "std": [1]}, "errors": []}},
        {"content": b"\xff\xfe"},
    ],
)
def test_another_service_is_told_as_such(kind, answer):
    client, _ = scripted(kind, httpx.Response(200, **answer))
    with pytest.raises(ServiceError, match="no answer of this service"):
        client.predict(["[]1"])


@pytest.mark.parametrize("key", ["k\u00e9y", "key\r\nx: y", "key\0", "\ud800", "a key"])
def test_a_key_that_cannot_be_sent_is_not_shown(key):
    with pytest.raises(ConfigError, match="copy it anew") as told:
        PredictorClient("http://127.0.0.1:1", "demo", key=key)
    assert key not in str(told.value)


def test_a_key_from_a_file_may_end_its_line(service):
    client = PredictorClient("http://127.0.0.1:1", "demo", key=" nasp_me_secret\n")
    assert client._headers == {"Authorization": "Bearer nasp_me_secret"}


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://\ud800", "ftp://host", "http://", "host:8000", "", "http://h:x"]
)
def test_what_is_no_address_of_a_service_is_told(url):
    with pytest.raises(ConfigError, match="expected http://HOST:PORT or https://HOST"):
        PredictorClient(url, "demo")
