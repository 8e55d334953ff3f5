"""Measurements with their claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "nasplatform_measurements",
        sa.Column("key", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("space", "task", "hash")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("fidelity", "seed")),
        sa.Column("state", sa.String(8), nullable=False),
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
    )
