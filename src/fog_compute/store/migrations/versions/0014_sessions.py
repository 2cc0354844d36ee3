"""Sessions over a restart, and what the circuits of each level did in all runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

COUNTS = (
    "circuits",
    "rotations",
    "bytes_sent",
    "bytes_received",
    "packets_sent",
    "surbs_sent",
)


def upgrade() -> None:
    op.create_table(
        "circuit_statistics",
        sa.Column("level", sa.String(16), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("home", sa.String(32), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("apart", sa.Boolean, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.Column("quota_bytes", sa.BigInteger),
        sa.Column("bytes_sent", sa.BigInteger, nullable=False),
        sa.Column("bytes_received", sa.BigInteger, nullable=False),
    )
    op.create_index("sessions_by_home", "sessions", ["home"])


def downgrade() -> None:
    op.drop_index("sessions_by_home", "sessions")
    op.drop_table("sessions")
    op.drop_table("circuit_statistics")
