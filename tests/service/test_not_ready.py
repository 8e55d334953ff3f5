"""What takes long to make holds up nobody: who needs it is told to come again."""

from __future__ import annotations

import threading

import pytest
from served import PREDICT, problem, until

from nasplatform.prepared import Prepared
from nasplatform.spaces.nasbench101 import index


@pytest.fixture
def go(monkeypatch, tmp_path, fitted):
    """The event for which the making of the md5s waits."""
    monkeypatch.setenv("NASPLATFORM_CACHE", str(tmp_path))
    some = fitted.space.enumerate()[:300]
    event = threading.Event()

    def cells():
        assert event.wait(60)
        return some

    monkeypatch.setattr(index, "enumerate_cells", cells)
    monkeypatch.setattr(index, "INDEX", Prepared("the table of all md5s", index._index))
    yield event
    event.set()


def test_others_are_answered_while_the_md5s_are_made(service, fitted, go):
    http, cell = service.http, fitted.space.enumerate()[217]
    asked = {
        PREDICT: {"architectures": ["[]1", cell.hash]},
        "/v1/predictors/demo/explain": {"architecture": f"md5:{cell.hash}"},
        "/v1/predictors/demo/evaluations": {
            "evaluations": [{"architecture": cell.hash, "score": 0.9}]
        },
        "/v2/models/demo/infer": {
            "inputs": [
                {
                    "name": "architecture",
                    "datatype": "BYTES",
                    "shape": [1],
                    "data": [cell.hash],
                }
            ]
        },
    }
    for path, body in asked.items():
        answer = http.post(path, json=body)
        assert "the table of all md5s is being made" in problem(answer, 503, "not-ready")
        assert int(answer.headers["retry-after"]) > 0
        assert http.post(PREDICT, json={"architectures": ["[3M]101/10/1"]}).status_code == 200
        assert http.get("/v2/health/ready").status_code == 200
    go.set()
    until(lambda: http.post(PREDICT, json=asked[PREDICT]).status_code == 200)
    assert http.post(PREDICT, json=asked[PREDICT]).json()["errors"] == []
    assert http.post("/v1/predictors/demo/explain", json=asked["/v1/predictors/demo/explain"])
