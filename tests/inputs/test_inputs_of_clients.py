"""What people give to a client of the service: input -> one line, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from nasplatform.errors import ArchitectureError, ConfigError, PredictorError
from nasplatform.service.client import PredictorClient

URL = "http://127.0.0.1:1"
MADE: list[tuple[tuple[Any, Any], dict[str, Any], str]] = [
    ((None, "demo"), {}, "client.url: expected text, got nothing"),
    ((b"http://x", "demo"), {}, "client.url: expected text, got b'http://x'"),
    (("127.0.0.1:8765", "demo"), {}, "client.url: expected http://HOST:PORT or https://HOST, got"),
    (("ftp://x", "demo"), {}, "client.url: expected http://HOST:PORT"),
    (("http://", "demo"), {}, "client.url: expected http://HOST:PORT"),
    (("http://a b", "demo"), {}, "client.url: expected http://HOST:PORT"),
    (("http://a/?x=1", "demo"), {}, "client.url: expected http://HOST:PORT"),
    ((URL, ""), {}, "client.name: expected the name of a predictor, got ''"),
    ((URL, None), {}, "client.name: expected text, got nothing"),
    ((URL, "a/b"), {}, "client.name: expected the name of a predictor, got 'a/b'"),
    ((URL, "../x"), {}, "client.name: expected the name of a predictor"),
    ((URL, "d"), {"version": "x/y"}, "client.version: expected a number or an alias"),
    ((URL, "d"), {"version": 1.0}, "client.version: expected a whole number, got 1.0"),
    ((URL, "d"), {"key": "sec ret"}, "client.key: holds other characters than letters"),
    ((URL, "d"), {"key": "\u043a"}, "client.key: holds other characters than letters"),
    ((URL, "d"), {"key": 3}, "client.key: holds other characters than letters"),
    ((URL, "d"), {"timeout": -1}, "client.timeout: expected a number greater than 0, got -1"),
    ((URL, "d"), {"timeout": "1_0"}, "client.timeout: expected a number, got '1_0'"),
    ((URL, "d"), {"timeout": None}, "client.timeout: expected a number, got nothing"),
    ((URL, "d"), {"timeout": float("inf")}, "client.timeout: expected a finite number, got inf"),
    ((URL, "d"), {"retries": -1}, "client.retries: expected a number of at least 0, got -1"),
    ((URL, "d"), {"retries": True}, "client.retries: expected a whole number, got true"),
    ((URL, "d"), {"batch_size": 0}, "client.batch_size: expected a number of at least 1, got 0"),
    ((URL, "d"), {"batch_size": -3}, "client.batch_size: expected a number of at least 1, got -3"),
    ((URL, "d"), {"batch_size": "9"}, "client.batch_size: expected a whole number, got '9'"),
]
SEVERAL = "expected several architectures, found"
ASKED: list[tuple[Callable[[PredictorClient], Any], type[Exception], str]] = [
    (lambda client: client.predict("[3]11/1"), ArchitectureError, f"{SEVERAL} the one text"),
    (lambda client: client.predict(None), ArchitectureError, f"{SEVERAL} NoneType"),  # type: ignore[arg-type]
    (lambda client: client.predict(3), ArchitectureError, f"{SEVERAL} int"),  # type: ignore[arg-type]
    (lambda client: client.predict({"a"}), ArchitectureError, "in order, .* found set"),  # type: ignore[arg-type]
    (lambda client: client.predict(pd.DataFrame(["a"])), ArchitectureError, "found DataFrame"),  # type: ignore[arg-type]
    (lambda client: client.describe("a"), ArchitectureError, f"{SEVERAL} the one text"),
    (lambda client: client.suggest(exclude="a"), ArchitectureError, f"{SEVERAL} the one text"),
    (lambda client: client.suggest(kappa=float("nan")), ConfigError, "kappa: expected a finite"),
    (lambda client: client.report(["a"], [1, 2]), PredictorError, r"shape \(2,\), expected \(1,\)"),
    (lambda client: client.report(["a"], [float("nan")]), PredictorError, r"scores\[0\] is nan"),
    (lambda client: client.report(["a"], [None]), PredictorError, r"scores\[0\] is nan"),  # type: ignore[list-item]
    (lambda client: client.report(["a"], 0.5), PredictorError, r"shape \(\), expected \(1,\)"),  # type: ignore[arg-type]
    (lambda client: client.report(["a"], ["x"]), PredictorError, "expected one number for each"),  # type: ignore[list-item]
]


def answer(request: httpx.Request) -> httpx.Response:
    """Answer like the service: as many means as architectures came."""
    count = len(json.loads(request.content)["architectures"])
    columns = {"mean": list(range(count)), "std": [0.0] * count}
    return httpx.Response(200, json={"errors": [], "columns": columns})


@pytest.mark.parametrize(("where", "options", "words"), MADE, ids=range(len(MADE)))
def test_wrong_clients(where: tuple[Any, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PredictorClient(*where, **options)
    assert str(refused.value).startswith(words)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("call", "kind", "words"), ASKED, ids=range(len(ASKED)))
def test_wrong_questions(
    call: Callable[[PredictorClient], Any], kind: type[Exception], words: str
) -> None:
    with PredictorClient(URL, "demo", retries=0) as client, pytest.raises(kind, match=words):
        call(client)


@pytest.mark.parametrize(
    "given",
    [
        lambda: iter(["a", "b", "c"]),
        lambda: ("a", "b", "c"),
        lambda: pd.Series(["a", "b", "c"], index=[2, 0, 1]),
        lambda: np.array(["a", "b", "c"]),
    ],
    ids=["generator", "tuple", "series", "array"],
)
def test_architectures_are_taken_by_position(given: Callable[[], Any]) -> None:
    with PredictorClient(URL, "demo", transport=httpx.MockTransport(answer)) as client:
        assert client.predict(given()).mean.tolist() == [0, 1, 2]
