"""How each training went, epoch by epoch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("nasplatform_measurements", sa.Column("curve", sa.Text))
