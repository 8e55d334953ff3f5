"""The contract of evaluation stores, on each kind of storage; and what is SQLite's own."""

from __future__ import annotations

from pathlib import Path

import postgresql
import pytest

from nasplatform.errors import ConfigError, RunError
from nasplatform.executors.store import (
    Busy,
    Claim,
    EvaluationStore,
    SQLEvaluationStore,
    open_store,
)
from nasplatform.testing.stores import KEY, StoreContract


class TestSQLite(StoreContract):
    def store(self, home: Path, max_attempts: int = 3) -> EvaluationStore:
        return SQLEvaluationStore(home / "m.db", max_attempts)


class TestJournal(StoreContract):
    def store(self, home: Path, max_attempts: int = 3) -> EvaluationStore:
        return open_store(f"journal:///{home / 'search.log'}", max_attempts)


@pytest.mark.postgres
class TestPostgreSQL(StoreContract):
    """Each test has a database of its own."""

    @pytest.fixture(autouse=True)
    def database(self, postgresql_server: postgresql.Server) -> None:
        self.url = postgresql_server.new_database()

    def store(self, home: Path, max_attempts: int = 3) -> EvaluationStore:
        return SQLEvaluationStore(self.url, max_attempts)


@pytest.mark.parametrize("content", [b"no database at all, just text", b"SQLite format 3\0 broken"])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content * 100)
    with pytest.raises(RunError, match=r"m\.db: not a store of evaluations"):
        open_store(path)


def test_a_database_without_proven_leases_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mysql://.*SQLite or PostgreSQL, not mysql") as refused:
        open_store("mysql://me:secret@host/db")
    assert "secret" not in str(refused.value)


def test_a_file_and_its_url_are_one_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "m.db") as one, open_store(f"sqlite:///{tmp_path / 'm.db'}") as two:
        assert isinstance(one.claim(KEY, 60), Claim)
        assert isinstance(two.claim(KEY, 60), Busy)
