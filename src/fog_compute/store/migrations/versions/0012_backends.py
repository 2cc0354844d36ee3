"""The backends that share the database, and which of them acts on a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backends",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("home", sa.String(32), nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_index("backends_by_home", "backends", ["home"], unique=True)
    op.add_column("attempts", sa.Column("owner", sa.String(32)))
    op.add_column("tasks", sa.Column("claimed_by", sa.String(32)))


def downgrade() -> None:
    op.drop_column("tasks", "claimed_by")
    op.drop_column("attempts", "owner")
    op.drop_index("backends_by_home", "backends")
    op.drop_table("backends")
