"""The log of a service: nobody waits for who reads it."""

from __future__ import annotations

import json
import os
import threading

import pytest

from nasplatform.service.middleware import log, log_to_stderr


@pytest.fixture
def reader(monkeypatch):
    """The end of a pipe that the log is written to."""
    kept = log.handlers[:], log.level, log.propagate
    there, here = os.pipe()
    with os.fdopen(here, "w") as stderr, os.fdopen(there) as end:
        monkeypatch.setattr("sys.stderr", stderr)
        log_to_stderr()
        yield end
        log.handlers[:], log.level, log.propagate = kept


def fill(lines):
    for number in range(lines):
        log.info("request", extra={"facts": {"number": number, "padding": "x" * 100}})


def test_a_log_that_nobody_reads_stops_nobody_and_tells_what_it_lost(reader):
    writer = threading.Thread(target=fill, args=[3000], daemon=True)
    writer.start()
    writer.join(20)
    stands = writer.is_alive()
    lines = [json.loads(reader.readline()) for _ in range(300)]  # makes room
    assert not stands
    assert [line["number"] for line in lines] == list(range(300))
    log.info("last")
    rest = []
    while not rest or rest[-1]["event"] != "last":
        rest += [json.loads(line) for line in [reader.readline()] if line.strip()]
    told = len(lines) + sum(line["event"] == "request" for line in rest)
    assert rest[-2]["event"] == "lines of the log lost"
    assert rest[-2]["lines"] == 3000 - told > 0


def test_a_line_longer_than_a_pipe_takes_at_once_is_whole(reader):
    log.info("request", extra={"facts": {"padding": "x" * 20_000}})
    assert len(json.loads(reader.readline())["padding"]) == 20_000
