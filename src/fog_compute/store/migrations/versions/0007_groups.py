"""The group that a task is for, in a column and in the index from which the queue is taken."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from fog_compute.store.migrations.specs import set_from_spec

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_WAITING = sa.text("state IN ('queued', 'retry')")


def upgrade() -> None:
    op.add_column(
        "tasks", sa.Column("group_name", sa.String(32), nullable=False, server_default="local")
    )
    set_from_spec(op.get_bind(), ("spec", "group_name"), _for_a_group)
    op.drop_index("tasks_waiting", "tasks")
    _index("id", "group_name", "kind")


def downgrade() -> None:
    op.drop_index("tasks_waiting", "tasks")
    op.drop_column("tasks", "group_name")
    _index("id", "kind")


def _index(*columns: str) -> None:
    op.create_index(
        "tasks_waiting",
        "tasks",
        ["privacy", *columns, "memory_bytes", "not_before", "state"],
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )


def _for_a_group(spec: dict[str, Any]) -> dict[str, object]:
    group = spec.get("group") or "local"
    return {"spec": json.dumps(spec | {"group": group}), "group_name": group}
