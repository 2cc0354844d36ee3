"""Results are kept as they came, and large ones among the blobs; those of before have no reader."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("results")
    _create(
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("blob", sa.String(64)),
    )


def downgrade() -> None:
    op.drop_table("results")
    _create(sa.Column("body", sa.LargeBinary, nullable=False))


def _create(*content: sa.Column[bytes] | sa.Column[str]) -> None:
    op.create_table(
        "results",
        sa.Column("handle", sa.String(32), primary_key=True),
        sa.Column(
            "task_id",
            sa.String(26),
            sa.ForeignKey("tasks.id", ondelete="CASCADE"),
            nullable=False,
        ),
        *content,
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("results_by_task", "results", ["task_id"])
    op.create_index("results_by_expiry", "results", ["expires_at"])
