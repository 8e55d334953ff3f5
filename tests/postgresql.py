"""A PostgreSQL server of one's own: made in a folder, reached through a port of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import sqlalchemy as sa

_PLACES = "/usr/lib/postgresql/*/bin"


def missing() -> str | None:
    """Return why no server can be started here, None where one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "the extra 'postgres' is not installed (psycopg)"
    if _program("initdb") is None:
        return "no PostgreSQL server is installed (initdb was not found)"
    return None if _user() is not None else "a server never runs as root, and no other user is here"


@contextmanager
def server(password: str | None = None) -> Iterator[str]:
    """Start a server with its data in a new folder; yield its URL for SQLAlchemy, stop it.

    password: what it asks for; it stands in no URL here.
    """
    user, port = _user(), _free_port()
    assert user is not None
    with TemporaryDirectory() as made:  # not below pytest's, where only its user may look
        folder = Path(made)
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data, log = folder / "data", folder / "log"
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        asked = ["--auth=trust"]
        if password is not None:
            (folder / "password").write_text(password)
            asked = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        _run(user, "initdb", "-D", data, "-U", "nas", *asked, "--no-sync")
        _run(user, "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://nas@127.0.0.1:{port}/postgres"
        finally:
            _run(user, "pg_ctl", "-D", data, "-m", "immediate", "stop")


def new_database(url: str) -> str:
    """Make a database on a server; return the URL of it."""
    name = f"t{uuid4().hex}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return f"{url.rpartition('/')[0]}/{name}"


def _program(name: str) -> str | None:
    folders = [str(path) for path in sorted(Path("/").glob(_PLACES.lstrip("/")), reverse=True)]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))


def _user() -> str | None:
    """Return who may run a server: whoever we are, or somebody else where we are root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _run(user: str, name: str, *arguments: object) -> None:
    program = _program(name)
    assert program is not None, name
    subprocess.run(
        [program, *map(str, arguments)],
        check=True,
        user=user if os.geteuid() == 0 else None,
        cwd="/",
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
