"""An index of the tasks that are not due yet, of which the queue asks for the first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_DUE = sa.text("state IN ('queued', 'retry') AND not_before IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "tasks_due",
        "tasks",
        ["privacy", "not_before", "state"],
        sqlite_where=_DUE,
        postgresql_where=_DUE,
    )


def downgrade() -> None:
    op.drop_index("tasks_due", "tasks")
