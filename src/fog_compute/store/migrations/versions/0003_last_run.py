"""How the clock stood in the last run, so that a jump between two runs is told from time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "last_run",
        sa.Column("boot", sa.String(64), primary_key=True),
        sa.Column("booted_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("last_run")
