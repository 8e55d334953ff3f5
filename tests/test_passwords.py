"""Addresses lose their passwords and nothing else."""

import pytest
from pydantic import ValidationError

from nasplatform.passwords import without_password
from nasplatform.service.client import PredictorClient, ServiceUnavailableError
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
        "http://127.0.0.1:8000",
        "search.budget=20",
        "mine@home: nothing",
    ],
)
def test_what_has_none_stays_as_it_is(text: str) -> None:
    assert without_password(text) == text


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
