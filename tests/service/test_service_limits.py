"""What is too much, or too slow, is refused with the limit."""

from __future__ import annotations

import socket

import pytest
from served import BINARY, PREDICT, problem, serving


def test_limits_are_told_with_the_way_out(store):
    with serving(store, max_items=10, max_body=20_000) as running:
        many = running.http.post(PREDICT, json={"architectures": ["[]1"] * 11})
        assert "may have 10: send several requests" in problem(many, 413, "too-many-items")
        large = running.http.post(PREDICT, json={"architectures": ["[]1"] * 1_000_000})
        assert "20,000 bytes" in problem(large, 413, "body-too-large")

        def chunks():
            for _ in range(100):
                yield b" " * 1000

        streamed = running.http.post(
            PREDICT, content=chunks(), headers={"content-type": "application/json"}
        )
        problem(streamed, 413, "body-too-large")
        assert running.http.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"[" + b" " * 10_000_000 + b"]", "application/json", "4,194,304 bytes"),
        (b"\0" * 8_000_000, BINARY, "4,194,304 bytes"),  # 1e6 architectures as codes
        (b"[]1\n" * 1_000_000, "text/plain", "1,000,000 architectures given"),
        (b'{"architectures": [' + b"0," * 999_999 + b"0]}", "application/json", "1,000,004 values"),
    ],
)
def test_too_much_is_refused_with_the_limit(service, body, kind, words):
    answer = service.http.post(PREDICT, content=body, headers={"content-type": kind})
    kinds = "body-too-large" if "bytes" in words else "too-many-items"
    assert words in problem(answer, 413, kinds)
    assert service.http.get("/v2/health/ready").status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(store):
    with serving(store, read_timeout=0.3) as running:
        port = int(running.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 10) as slow:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n"
            slow.sendall((head + "Content-Type: application/json\r\n\r\n{").encode())
            assert b" 408 " in slow.recv(4096)
