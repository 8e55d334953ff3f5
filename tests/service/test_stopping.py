"""A service that is stopped while it works."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import served
from served import PREDICT, problem, serving

from nasplatform.service.models import Model


def test_a_request_that_outlasts_the_grace_is_told_in_one_line(store, monkeypatch, caplog):
    configured, asked, go = served.server_config, threading.Event(), threading.Event()
    answer = Model.answer

    def with_short_grace(app, settings):
        config = configured(app, settings)
        config.timeout_graceful_shutdown = 1
        return config

    def slow_answer(self, *what):
        asked.set()
        assert go.wait(60)
        return answer(self, *what)

    monkeypatch.setattr(served, "server_config", with_short_grace)
    monkeypatch.setattr(Model, "answer", slow_answer)
    with ThreadPoolExecutor(1) as pool:
        with serving(store) as running:
            body = {"architectures": ["[]1"]}
            said = pool.submit(httpx.post, running.url + PREDICT, json=body, timeout=60)
            said.add_done_callback(lambda _: go.set())
            assert asked.wait(60)
        assert "is being stopped" in problem(said.result(), 503, "stopping")
    assert not [record for record in caplog.records if record.exc_info]
    assert len(caplog.records) <= 1  # uvicorn's word that the grace is over
