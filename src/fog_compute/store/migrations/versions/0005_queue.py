"""What a task needs of a worker, in columns with an index, so that the queue is taken from here."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from fog_compute.store.migrations.specs import set_from_spec

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WAITING = sa.text("state IN ('queued', 'retry')")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("kind", sa.String(16), nullable=False, server_default="wasm"))
    op.add_column(
        "tasks", sa.Column("memory_bytes", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("tasks", sa.Column("hopeless_since", sa.BigInteger))
    op.add_column(
        "attempts", sa.Column("refused", sa.Boolean, nullable=False, server_default=sa.false())
    )
    set_from_spec(op.get_bind(), ("kind", "memory_bytes"), _needs)
    op.create_index(
        "tasks_waiting",
        "tasks",
        ["privacy", "id", "kind", "memory_bytes", "not_before", "state"],
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )
    op.create_index(
        "tasks_hopeless",
        "tasks",
        ["hopeless_since"],
        sqlite_where=sa.text("hopeless_since IS NOT NULL"),
        postgresql_where=sa.text("hopeless_since IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("tasks_hopeless", "tasks")
    op.drop_index("tasks_waiting", "tasks")
    op.drop_column("attempts", "refused")
    for name in ("hopeless_since", "memory_bytes", "kind"):
        op.drop_column("tasks", name)


def _needs(spec: dict[str, Any]) -> dict[str, object]:
    return {"kind": spec["kind"], "memory_bytes": spec["limits"]["memory_bytes"]}
