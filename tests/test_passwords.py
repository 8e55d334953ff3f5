"""Addresses lose their passwords and nothing else."""

import json
import logging
import sys
import time

import pytest
from pydantic import ValidationError

from nasplatform.complaints import shortened
from nasplatform.passwords import without_password
from nasplatform.service.client import PredictorClient, ServiceUnavailableError
from nasplatform.service.middleware import JsonLines
from nasplatform.service.remote import RemoteOptions


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql+psycopg://me:s3@host:5432/db", "postgresql+psycopg://me@host:5432/db"),
        ("postgresql://me:s3%40@host/db", "postgresql://me@host/db"),
        ("postgresql://me:s3@/s3 s3@host/db", "postgresql://me@host/db"),
        ("postgresql://:s3@host/db", "postgresql://@host/db"),
        ("postgresql://me:s3/db", "postgresql://me/db"),
        ("postgresql://me:s3", "postgresql://me"),
        ("postgresql://h/db?password=s3", "postgresql://h/db"),
        ("postgresql://h/db?user=me&password=s3&sslmode=off", "postgresql://h/db?user=me&sslmode=off"),
        ("postgresql://h/db?sslmode=off&sslpassword=s3", "postgresql://h/db?sslmode=off"),
        ("postgresql://me@corp:s3@host/db", "postgresql://me@corp@host/db"),
        ("postgresql://corp/me:s3@host/db", "postgresql://corp/me@host/db"),
        ("postgresql:/me:s3@host/db", "postgresql:/me@host/db"),
        ("me:s3@host/db", "me@host/db"),
        ("postgresql://h/db?sslpassword=s3&password=s3&user=me", "postgresql://h/db?user=me"),
        ("postgresql://h/db?PassWd=s3", "postgresql://h/db"),
        ("postgresql://h/db?pass%77ord=s3", "postgresql://h/db"),
        ("postgresql://h/db?password=s 's3", "postgresql://h/db"),
        ("postgresql://h/db?a=b&pwd=s3: not there", "postgresql://h/db?a=b: not there"),
        ("{'password': 's3', 'x': 1}", "{'password': ..., 'x': 1}"),
        ("host=h password=s3", "host=h password=..."),
        ("the key nasp_me_s3s3s3s3-s3", "the key nasp_me_..."),
        ("storage=postgresql://me:s3@host/db", "storage=postgresql://me@host/db"),
        ("{'url': 'postgresql://me:s3@host/db'}", "{'url': 'postgresql://me@host/db'}"),
    ],
)  # fmt: skip
def test_the_password_goes(text: str, left: str) -> None:
    assert without_password(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///runs/shared.db",
        "postgresql+psycopg://me@host:5432/db",
        "postgresql://host:5432",
        "postgresql://host:5432/db?sslmode=off",
        "sqlite:////home/a:b@c/shared.db",
        "http://127.0.0.1:8000/v1: predictor 'demo@2' is not there",
        "search.yaml:12: latest@3, tokens=4, password: expected text",
        "http://127.0.0.1:8000",
        "search.budget=20",
        "mine@home: nothing",
    ],
)
def test_what_has_none_stays_as_it_is(text: str) -> None:
    assert without_password(text) == text


def test_the_middle_of_a_long_address_goes_after_its_password() -> None:
    long = "postgresql://me:" + "x/" * 60 + "s3" + "y" * 40 + "@host/db"
    for value in (long, [long], {"url": long}):
        assert "s3" not in shortened(value)


def test_the_log_of_a_service_tells_none() -> None:
    try:
        raise ValueError("postgresql://me:s3@host/db is not there")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    line = json.loads(JsonLines().format(record))["exception"]
    assert "ValueError: postgresql://me@host/db is not there" in line
    assert "me:s3" not in line.splitlines()[-1]


@pytest.mark.parametrize("text", ["a", "=a:b@", "'a':", "://a:", "?a=b", "nasp_a_", "= "])
def test_long_texts_take_no_time(text: str) -> None:
    begun = time.process_time()
    without_password(text * (20_000 // len(text)))
    assert time.process_time() - begun < 3  # tenths of a second; half a minute where it looks twice


def test_the_address_of_a_service_is_told_without_it() -> None:
    with (
        PredictorClient("http://me:s3@127.0.0.1:1", "demo", retries=0) as client,
        pytest.raises(ServiceUnavailableError, match=r"http://me@127\.0\.0\.1:1/v1") as told,
    ):
        client.card()
    assert "s3" not in str(told.value)


def test_the_address_of_a_remote_predictor_is_kept_so_it_holds_none() -> None:
    RemoteOptions(url="http://host:8000/proxied", model="demo")
    for url in ("http://me:s3@host:8000", "http://s3@host"):
        with pytest.raises(ValidationError, match="match pattern"):
            RemoteOptions(url=url, model="demo")
