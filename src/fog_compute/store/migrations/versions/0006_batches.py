"""Batches of tasks, and events with one number that grows over all tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("batch", sa.String(26)))
    _index("tasks_by_batch", "tasks", "id")
    op.rename_table("events", "events_before")
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        _task_id(primary_key=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("batch", sa.String(26)),
        *_content(),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_task", "events", ["task_id", "version"], unique=True)
    _index("events_by_batch", "events", "seq")
    op.execute(
        "INSERT INTO events (task_id, version, state, attempt, reason, at)"
        " SELECT task_id, version, state, attempt, reason, at FROM events_before ORDER BY at"
    )
    op.drop_table("events_before")


def downgrade() -> None:
    op.rename_table("events", "events_after")
    op.create_table(
        "events",
        _task_id(primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        *_content(),
    )
    op.execute(
        "INSERT INTO events (task_id, version, state, attempt, reason, at)"
        " SELECT task_id, version, state, attempt, reason, at FROM events_after"
    )
    op.drop_table("events_after")
    op.drop_index("tasks_by_batch", "tasks")
    op.drop_column("tasks", "batch")


def _index(name: str, table: str, column: str) -> None:
    where = sa.text("batch IS NOT NULL")
    op.create_index(name, table, ["batch", column], sqlite_where=where, postgresql_where=where)


def _task_id(*, primary_key: bool) -> sa.Column[str]:
    return sa.Column(
        "task_id",
        sa.String(26),
        sa.ForeignKey("tasks.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def _content() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.String(32)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
