"""Searches with what they pay for, workers, and where a measurement broke."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add two columns and three tables."""
    op.add_column("nasplatform_measurements", sa.Column("traceback", sa.Text))
    op.add_column("nasplatform_measurements", sa.Column("owner", sa.String(64)))
    op.create_table(
        "nasplatform_searches",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("admitted", sa.BigInteger, nullable=False),
        sa.Column("budget", sa.BigInteger),
        sa.Column("resolved", sa.Text),
    )
    op.create_table(
        "nasplatform_admitted",
        sa.Column("search", sa.String(100), primary_key=True),
        sa.Column("hash", sa.String(128), primary_key=True),
    )
    op.create_table(
        "nasplatform_workers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("search", sa.String(100), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("begun", "seen", "ttl")),
        sa.Column("left", sa.Boolean, nullable=False),
    )
