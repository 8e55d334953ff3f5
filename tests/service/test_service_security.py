from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from served import serving, until

from nasplatform.cli import main
from nasplatform.errors import ConfigError
from nasplatform.service.metrics import Metrics
from nasplatform.service.middleware import FrontDoor
from nasplatform.service.security import (
    Caller,
    KeyFile,
    RateLimiter,
    add_key,
    is_loopback,
    network_of,
)
from nasplatform.service.settings import Settings

READ, WRITE = frozenset({"read"}), frozenset({"read", "write"})
OPEN = {"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded(published, tmp_path_factory):
    """A service with keys, and the keys by scope."""
    import shutil

    from nasplatform.service import PredictorStore

    folder = tmp_path_factory.mktemp("guarded")
    shutil.copytree(published, folder / "store")
    keys = {
        "read": add_key(folder / "keys.json", "reader", READ, rate=10_000),
        "write": add_key(folder / "keys.json", "writer", WRITE, rate=10_000),
        "slow": add_key(folder / "keys.json", "slow", READ, rate=1),
        "unknown": "nasp_reader_" + "A" * 43,
        "empty": "",
    }
    with serving(PredictorStore(folder / "store"), api_keys=folder / "keys.json") as running:
        yield running, keys, folder


def routes(running):
    for path, operations in running.http.get("/openapi.json").json()["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{name}", "demo").replace("{version}", "1")
    yield from [("GET", "/metrics"), ("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json")]


def test_every_route_asks_for_a_key_and_its_scope(guarded):
    running, keys, _ = guarded
    seen = set()
    for method, path in routes(running):
        seen.add(path)
        codes = {
            who: running.http.request(method, path, headers=bearer(key) if key else {}).status_code
            for who, key in keys.items()
            if who != "slow"
        }
        if path in OPEN:
            assert set(codes.values()) == {200}, path
            continue
        assert (codes["empty"], codes["unknown"]) == (401, 401), path
        assert codes["write"] not in (401, 403), path
        if path.endswith("/evaluations"):
            assert codes["read"] == 403
        else:
            assert codes["read"] == codes["write"], path
    assert len(seen) > 15


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic x",
        "Bearer nasp_reader_",
        "Bearer nasp__",
        "Bearer " + "x" * 9999,
    ],
)
def test_a_wrong_key_is_told_how_to_send_one(guarded, header):
    answer = guarded[0].http.get("/v1/predictors", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer KEY" in answer.json()["detail"]
    assert header[7:] == "" or header[7:] not in answer.text


def test_a_key_that_asks_too_often_is_told_when_to_come_back(guarded):
    running, keys, _ = guarded
    answers = [running.http.get("/v1/runs", headers=bearer(keys["slow"])) for _ in range(4)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert running.http.get("/v1/runs", headers=bearer(keys["read"])).status_code == 200


def test_keys_are_read_again_when_the_file_changes(guarded):
    running, _, folder = guarded
    path = folder / "keys.json"
    key = add_key(path, "late", READ)
    until(lambda: running.http.get("/v1/runs", headers=bearer(key)).status_code == 200)
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([entry for entry in entries if entry["id"] != "late"]))
    until(lambda: running.http.get("/v1/runs", headers=bearer(key)).status_code == 401)


def test_reported_results_carry_the_key_and_no_secret(guarded):
    running, keys, folder = guarded
    body = {"evaluations": [{"architecture": "[]1", "score": 0.5}]}
    path = "/v1/predictors/demo/evaluations"
    assert running.http.post(path, json=body, headers=bearer(keys["write"])).status_code == 200
    text = (folder / "store" / "demo" / "reported.jsonl").read_text()
    assert '"by": "writer"' in text
    assert keys["write"] not in text


def test_without_keys_other_host_names_are_refused(service):
    for host, status in [
        ("evil.example", 403),
        ("localhost:80", 200),
        ("testserver", 403),
        ("[::1]:5", 200),
        ("127.0.0.1", 200),
    ]:
        assert service.http.get("/v1/runs", headers={"host": host}).status_code == status


def test_a_key_file_holds_hashes_only(tmp_path):
    path = tmp_path / "keys.json"
    key = add_key(path, "ci", WRITE)
    assert re.fullmatch(r"nasp_ci_[A-Za-z0-9-]{43}", key)
    assert key.rsplit("_", 1)[1] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    keys = KeyFile(path)
    assert keys.check(key) == Caller("ci", WRITE)
    assert keys.check(key[:-1] + ("A" if key[-1] != "A" else "B")) is None
    assert keys.check(key.replace("_ci_", "_cj_")) is None
    with pytest.raises(ConfigError, match="has a key 'ci' already"):
        add_key(path, "ci", READ)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '[{"id": "a"}]', '[{"id": "a", "sha256": "x", "scopes": ["read"]}]']
)
def test_a_key_file_that_holds_none_is_refused(tmp_path, text):
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.json"):
        KeyFile(tmp_path / "keys.json")


@pytest.mark.parametrize(
    ("identity", "scopes"), [("a b", READ), ("", READ), ("a", frozenset({"x"}))]
)
def test_an_impossible_key_is_not_added(tmp_path, identity, scopes):
    with pytest.raises(ConfigError, match="an id has"):
        add_key(tmp_path / "keys.json", identity, scopes)


def test_a_bucket_refills(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    limiter, caller = RateLimiter(5.0), Caller("a", READ, rate=2.0)
    waits = [limiter.wait(caller) for _ in range(5)]
    assert waits == [0, 0, 0, 0, 0.5]
    now[0] = 0.5
    assert limiter.wait(caller) == 0
    assert limiter.wait(Caller("b", READ)) == 0


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
     ("localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_what_is_this_machine(host, own):
    assert is_loopback(host) is own


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_nothing_listens_beyond_this_machine_without_keys(tmp_path, capsys, host):
    code = main(["serve", "--predictors", str(tmp_path), "--host", host])
    assert code == 2
    assert "needs --api-keys" in capsys.readouterr().err


def test_a_key_is_shown_once(tmp_path, capsys):
    arguments = ["serve", "--api-keys", str(tmp_path / "k.json"), "--add-key", "me"]
    assert main([*arguments, "--scopes", "read,write"]) == 0
    key = capsys.readouterr().out.strip()
    assert KeyFile(tmp_path / "k.json").check(key) == Caller("me", WRITE)
    assert main([*arguments, "--scopes", "admin"]) == 2
    assert "--api-keys" in _error(capsys, ["serve", "--add-key", "x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--predictors"),
        (["--predictors", "x", "--set", "max_body=1"], "serve.max_body"),
        (["--predictors", "x", "--set", "nix=1"], "unknown key 'nix'"),
        (["--predictors", "x", "--add", "demo"], "expected NAME=FOLDER"),
        (["--predictors", "x", "--add", "demo=nowhere"], "no predictor stands here"),
    ],
)
def test_serve_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in _error(capsys, ["serve", *arguments])


def _error(capsys, arguments):
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_site_of_ipv6_is_one_stranger(address, stands_for):
    assert network_of(address) == stands_for


def test_strangers_of_one_site_share_their_rate(tmp_path):
    add_key(tmp_path / "keys.json", "one", READ)
    settings = Settings(api_keys=tmp_path / "keys.json", rate=2)
    app = FrontDoor(settings, Metrics()).before(None)

    async def ask(last):
        transport = httpx.ASGITransport(app, client=(f"2001:db8::{last:x}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            headers = {"X-Forwarded-For": f"192.0.2.{last}"}
            return (await client.get("/v1/predictors", headers=headers)).status_code

    assert {asyncio.run(ask(last)) for last in range(8)} == {401, 429}
