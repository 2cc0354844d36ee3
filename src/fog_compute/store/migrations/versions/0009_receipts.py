"""What the worker of a result signed for it; for those of before nobody did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("results") as table:
        table.add_column(sa.Column("receipt", sa.LargeBinary, nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("results") as table:
        table.drop_column("receipt")
