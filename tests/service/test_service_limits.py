"""What is too much, or too slow, is refused with the limit."""

from __future__ import annotations

import gzip
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


def test_a_body_that_is_told_to_be_too_large_is_not_read(store):
    with serving(store, max_body=2000, read_timeout=60.0) as running:
        port = int(running.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 10) as large:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2001\r\n"
            large.sendall((head + "Content-Type: application/json\r\n\r\n{").encode())
            assert b" 413 " in large.recv(4096)


def test_limits_may_just_be_reached(store):
    """What is allowed is allowed to the last item, byte and value."""
    with serving(store, max_items=3, max_body=2000, max_values=10_000) as running:
        send = lambda body: running.http.post(  # noqa: E731
            PREDICT, content=body, headers={"content-type": "application/json"}
        )
        three = b'{"architectures": ["[]1", "[]1", "[]1"]}'
        assert send(three).status_code == 200
        problem(send(three.replace(b"]}", b', "[]1"]}')), 413, "too-many-items")
        assert send(three.ljust(2000)).status_code == 200
        problem(send(three.ljust(2001)), 413, "body-too-large")
        packed = gzip.compress(three.ljust(2001))
        answer = running.http.post(
            PREDICT,
            content=packed,
            headers={"content-type": "application/json", "content-encoding": "gzip"},
        )
        assert "unpacked, a body may have 2,000 bytes" in problem(answer, 413, "body-too-large")


def test_values_of_a_json_body_are_counted(store):
    """An object counts for four, as it takes the memory of four."""
    with serving(store, max_values=20_000) as running:
        head, tail = b'{"architectures": [', b'], "none": 0}'
        for number, answered in ((19_994, 422), (19_996, 413)):
            body = head + b",".join([b"0"] * number) + tail
            answer = running.http.post(
                PREDICT, content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == answered, number


MANY = ",".join(f'"k{number}": []' for number in range(20_000))


@pytest.mark.parametrize(
    ("action", "body", "words"),
    [
        ("predict", f"{{{MANY}}}", "20,001 places of the body do not fit: its keys are archit"),
        ("evaluations", f'{{"evaluations": [{{{MANY}}}]}}', "20,002 places of the body do not fit"),
        ("explain", f'{{"params": {{{MANY}}}}}', "20,000 decisions given"),
        (
            "predict",
            f'{{"architectures": [], "include": [{"1, " * 20_000}1]}}',
            "include.0: expected 'std'",
        ),
    ],
)
def test_many_faults_of_a_body_are_counted_and_not_listed(service, action, body, words):
    """To list them takes longer than to read the body, and stops everybody meanwhile."""
    answer = service.http.post(
        f"/v1/predictors/demo/{action}", content=body, headers={"content-type": "application/json"}
    )
    detail = problem(answer, 422, "bad-body")
    assert words in detail
    assert "more)" not in detail


def test_requests_in_progress_are_bounded(store):
    """One waits for its body; the next is told to come back, and health is always answered."""
    with serving(store, max_requests=1, read_timeout=60.0) as running:
        port = int(running.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 10) as slow:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n"
            slow.sendall((head + "Content-Type: application/json\r\n\r\n{").encode())
            slow.settimeout(2)  # it must come in first, or it would be the one that is refused
            with pytest.raises(TimeoutError):
                slow.recv(1)
            answer = running.http.get("/v1/predictors")
            assert "1 requests are in progress" in problem(answer, 503, "overloaded")
            assert running.http.get("/v2/health/live").status_code == 200
