"""The tables of the store, and which version of them a database holds.

A database without our tables gets them; any other version is refused with what to do. Only
``nasplatform db upgrade`` changes tables that exist (see ``migrations``).
"""

from __future__ import annotations

import sqlalchemy as sa

from nasplatform.errors import RunError

HEAD = "0003"
VERSION_TABLE = "nasplatform_version"
METADATA = sa.MetaData()

MEASUREMENTS = sa.Table(
    "nasplatform_measurements",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("space", "task", "hash")),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("fidelity", "seed")),
    sa.Column("state", sa.String(8), nullable=False),  # free, running, ended or dead
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.BigInteger, nullable=False),
    sa.Column("lease_until", sa.Double),
    sa.Column("changed", sa.Double, nullable=False),
    sa.Column("score", sa.Double),
    sa.Column("metrics", sa.Text),
    sa.Column("seconds", sa.Double),
    sa.Column("stopped", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("error_class", sa.String(16)),
    sa.Column("traceback", sa.Text),
    sa.Column("owner", sa.String(64)),  # the worker that claimed it last
    sa.Column("curve", sa.Text),  # of its training, JSON
)

SEARCHES = sa.Table(
    "nasplatform_searches",
    METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("admitted", sa.BigInteger, nullable=False),  # rows in nasplatform_admitted
    sa.Column("budget", sa.BigInteger),
    sa.Column("resolved", sa.Text),  # its file as resolved, JSON
)

ADMITTED = sa.Table(  # the architectures that a search pays for out of its budget
    "nasplatform_admitted",
    METADATA,
    sa.Column("search", sa.String(100), primary_key=True),
    sa.Column("hash", sa.String(128), primary_key=True),
)

WORKERS = sa.Table(
    "nasplatform_workers",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("search", sa.String(100), nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("begun", sa.Double, nullable=False),
    sa.Column("seen", sa.Double, nullable=False),
    sa.Column("ttl", sa.Double, nullable=False),  # seconds of silence after which it counts as lost
    sa.Column("left", sa.Boolean, nullable=False),  # it said good-bye
)

VERSION = sa.Table(
    VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)


def version_of(connection: sa.Connection) -> str | None:
    """Return which version of the tables a database holds, None where it holds none of them."""
    known = sa.inspect(connection)
    if known.has_table(VERSION_TABLE):
        return connection.execute(sa.select(VERSION.c.version_num)).scalar_one_or_none()
    return "unnumbered" if known.has_table(MEASUREMENTS.name) else None


def prepare(connection: sa.Connection, where: str) -> None:
    """Make the tables where there are none; raise RunError where they are of another version.

    The caller holds a lock, so that one of several processes makes them.
    where: the database, in words without a password.
    """
    found = version_of(connection)
    if found is None:
        METADATA.create_all(connection)
        VERSION.create(connection)
        connection.execute(VERSION.insert().values(version_num=HEAD))
    elif found != HEAD:
        raise RunError(f"{where}: {other_version(found)}")


def other_version(found: str) -> str:
    """Say in words what to do about tables of a version that is not ours."""
    if found < HEAD:
        return (
            f"its tables are of version {found}, this nasplatform works with {HEAD}: stop its "
            f"workers, then nasplatform db upgrade --storage URL"
        )
    return (
        f"its tables are of version {found}, which this nasplatform does not know (it works with "
        f"{HEAD}): install the nasplatform that made them"
    )
