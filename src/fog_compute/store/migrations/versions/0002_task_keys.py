"""Keys under which tasks were asked for, so that asking again makes no second task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "task_keys",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column(
            "task_id",
            sa.String(26),
            sa.ForeignKey("tasks.id", ondelete="CASCADE"),
            nullable=False,
        ),
    )
    op.create_index("task_keys_by_task", "task_keys", ["task_id"], unique=True)


def downgrade() -> None:
    op.drop_table("task_keys")
