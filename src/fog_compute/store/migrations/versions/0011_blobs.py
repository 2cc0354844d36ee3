"""Blobs in rows, for a database that several machines share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("put_at", sa.BigInteger, nullable=False),
    )
    op.create_index("blobs_by_sha256", "blobs", ["sha256"], unique=True)
    op.create_index("blobs_by_date", "blobs", ["put_at"])
    op.create_table(
        "blob_pieces",
        sa.Column(
            "blob",
            sa.String(32),
            sa.ForeignKey("blobs.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        # What is sent about is packed already, or soon will be.
        op.execute("ALTER TABLE blob_pieces ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("blob_pieces")
    op.drop_table("blobs")
