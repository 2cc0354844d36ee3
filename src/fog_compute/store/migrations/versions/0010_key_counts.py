"""How many tasks were made under a key; of those that were made before it is not known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("task_keys", sa.Column("made", sa.Integer))


def downgrade() -> None:
    with op.batch_alter_table("task_keys") as table:
        table.drop_column("made")
