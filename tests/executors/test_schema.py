"""Versions of the store's tables: another one is refused, an older one upgraded with its rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import postgresql
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from nasplatform.cli import main
from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluation
from nasplatform.executors.store import Busy, open_store, schema, upgrade
from nasplatform.executors.store.database import engine_of
from nasplatform.testing.stores import KEY


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: postgresql.Server = request.getfixturevalue("postgresql_server")
        return server.new_database()
    return f"sqlite:///{tmp_path / 's.db'}"


def make_version(storage: str, version: str) -> None:
    config = upgrade._config()
    engine = engine_of(storage)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()


def test_the_head_is_the_last_migration() -> None:
    script = ScriptDirectory.from_config(upgrade._config())
    assert script.get_current_head() == schema.HEAD
    assert [one.revision for one in script.walk_revisions()] == ["0003", "0002", "0001"]


def test_migrations_make_what_a_new_database_gets(storage: str) -> None:
    make_version(storage, "head")
    engine = engine_of(storage)
    with engine.begin() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.METADATA) == []
    engine.dispose()
    with open_store(storage) as store:
        assert len(store) == 0


def test_an_older_version_is_refused_and_upgraded_with_its_records(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_version(storage, "0001")
    known = {**vars(KEY), "key": KEY.digest, "state": "ended", "attempt": 1, "failures": 0}
    measured = {"changed": 0.0, "score": 0.5, "metrics": json.dumps({"loss": 1.0}), "seconds": 2.0}
    columns = {**known, **measured}
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    engine = engine_of(storage)
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"INSERT INTO nasplatform_measurements ({names}) VALUES ({values})"), columns
        )
    engine.dispose()
    with pytest.raises(RunError, match=r"of version 0001, .* nasplatform db upgrade --storage URL"):
        open_store(storage)
    assert main(["db", "check", "--storage", storage]) == 2
    assert main(["status", "--storage", storage]) == 2
    assert capsys.readouterr().err.count("of version 0001") == 2
    assert main(["db", "current", "--storage", storage, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": "0001", "wanted": schema.HEAD}
    assert main(["db", "upgrade", "--storage", storage]) == 0
    assert main(["db", "check", "--storage", storage]) == 0
    with open_store(storage) as store:
        assert store.get(KEY) == Evaluation(0.5, {"loss": 1.0}, 2.0)
    assert main(["db", "upgrade", "--storage", storage]) == 0
    assert "already" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["0004", "abcdef"])
def test_a_version_of_the_future_is_refused_and_left_alone(storage: str, version: str) -> None:
    open_store(storage).close()
    engine = engine_of(storage)
    with engine.begin() as connection:
        connection.execute(sa.update(schema.VERSION).values(version_num=version))
    engine.dispose()
    for refused in (open_store, upgrade.upgrade):
        with pytest.raises(RunError, match=f"of version {version}, which .* does not know"):
            refused(storage)
    assert upgrade.current(storage) == version


def test_an_empty_database_is_checked_and_not_touched(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "check", "--storage", storage]) == 0
    assert "no tables yet" in capsys.readouterr().out
    assert upgrade.current(storage) is None
    assert main(["status", "--storage", storage]) == 2
    said = capsys.readouterr().err
    assert "holds no search" in said or "no such file; the first search" in said
    assert upgrade.current(storage) is None


def test_status_tells_workers_leases_and_the_dead(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [type(KEY)("space", "task", f"hash{i}", 1, 0) for i in range(4)]
    with open_store(storage) as store, open_store(storage) as gone:
        store.join("s", 60.0, 10)
        gone.join("s", 0.0, 10)
        lost, measured, dead, held = (store.claim(key, 60.0) for key in keys)
        for claim in (lost, measured, dead, held):
            assert not isinstance(claim, (Busy, Evaluation))
        store.admit("s", "hash1", 10)
        store.finish(measured, Evaluation(0.5))
        store.fail(dead, "fatal", "KeyError: 'x'", "Traceback")
        assert main(["status", "--storage", storage, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        store.leave()
        assert main(["status", "--storage", storage]) == 0
    assert found["searches"] == [{"name": "s", "budget": 10, "admitted": 1}]
    assert [(w["state"], w["measured"]) for w in found["workers"]] == [("alive", 1), ("lost", 0)]
    assert {lease["hash"] for lease in found["leases"]} == {"hash0", "hash3"}
    assert all(0 < lease["seconds"] <= 60 for lease in found["leases"])
    assert [(one["hash"], one["error_class"]) for one in found["dead"]] == [("hash2", "fatal")]
    assert found["records"] == found["throughput"]["last_minute"] == 1
    assert "left" in capsys.readouterr().out


@pytest.mark.postgres
def test_a_storage_that_may_not_be_written_is_said_so(
    postgresql_server: postgresql.Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Empty or with all its tables: one line, before anything is paid for."""
    file = tmp_path / "search.yaml"
    file.write_text(
        "name: s\nevaluator: {name: table, table: cells-digits}\n"
        "search: {budget: 3, sampler: {name: random}}\n"
    )
    url = postgresql_server.new_database()
    for _ in range(2):
        name = url.rpartition("/")[2]
        postgresql_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgresql_server.cut_connections(url)
        told = ["run", str(file), "--set", f"storage={url}", "--out", str(tmp_path / "run")]
        assert main(told) == 2
        assert "read-only" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
        postgresql_server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert main([*told[:-1], str(tmp_path / "other"), "--force"]) == 0


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nas:secret@127.0.0.1:1/x", "cannot be reached: connection failed: .* refused"),
        ("nas:secret@nowhere.invalid/x", "cannot be reached: .*'nowhere.invalid'"),
        ("nas:secret@/x?host=/nowhere", "cannot be reached: .*No such file or directory"),
    ],
)
def test_a_server_that_is_not_there_is_said_so(
    place: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, url = tmp_path / "search.yaml", f"postgresql+psycopg://{place}"
    file.write_text(
        "name: s\nevaluator: {name: table, table: cells-digits}\n"
        "search: {budget: 3, sampler: {name: random}}\n"
    )
    for command_line in (
        ["run", str(file), "--set", f"storage={url}", "--out", str(tmp_path / "run")],
        ["worker", str(file), "--storage", url],
        *([*each, "--storage", url] for each in (["status"], ["requeue"], ["db", "current"])),
    ):
        assert main(command_line) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.search(words, last)
        assert "secret" not in last
        assert "psycopg." not in last
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("url", ["mysql://me@host/db", "mysql+pymysql://me@host/db"])
def test_mysql_is_refused_with_the_reason(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command_line in (["status"], ["db", "check"], ["db", "upgrade"], ["requeue"]):
        assert main([*command_line, "--storage", url]) == 2
        said = capsys.readouterr().err
        assert "SQLite or PostgreSQL, not mysql: only there leases are proven" in said
