"""Tasks, attempts, results, history, blobs of tasks, statistics per level."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LEVELS = ("public", "private", "confidential", "secret")
_TOTALS = ("submitted", "accepted", "failed", "cancelled", "attempts", "retries", "run_ms")


def _task_id(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "task_id",
        sa.String(26),
        sa.ForeignKey("tasks.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("privacy", sa.String(16), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("attempt", sa.String(32)),
        sa.Column("leases", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
    )
    op.create_index("tasks_by_state", "tasks", ["state", "id"])
    op.create_index("tasks_by_end", "tasks", ["finished_at"])
    op.create_table(
        "attempts",
        sa.Column("handle", sa.String(32), primary_key=True),
        _task_id(),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("attempts_by_task", "attempts", ["task_id", "number"], unique=True)
    op.create_index("attempts_by_state", "attempts", ["state"])
    op.create_table(
        "results",
        sa.Column("handle", sa.String(32), primary_key=True),
        _task_id(),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("results_by_task", "results", ["task_id"])
    op.create_index("results_by_expiry", "results", ["expires_at"])
    op.create_table(
        "events",
        _task_id(primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.String(32)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "task_blobs",
        _task_id(primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
    )
    op.create_index("task_blobs_by_sha256", "task_blobs", ["sha256"])
    statistics = op.create_table(
        "level_statistics",
        sa.Column("level", sa.String(16), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TOTALS),
    )
    op.bulk_insert(statistics, [{"level": level, **dict.fromkeys(_TOTALS, 0)} for level in _LEVELS])


def downgrade() -> None:
    for table in ("level_statistics", "task_blobs", "events", "results", "attempts", "tasks"):
        op.drop_table(table)
