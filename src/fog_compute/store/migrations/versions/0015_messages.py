"""A person's own messages and contacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

TABLES = (
    "chat_peers",
    "chat_groups",
    "chat_receipts",
    "chat_seen",
    "chat_received_streams",
    "chat_sent_streams",
    "chat_deliveries",
    "chat_messages",
)


def upgrade() -> None:
    op.create_table(
        "chat_messages",
        sa.Column("number", SERIAL, primary_key=True),
        sa.Column("home", sa.String(32), nullable=False),
        sa.Column("origin", sa.String(65), nullable=False),
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("position", sa.BigInteger),
        sa.Column("outgoing", sa.Boolean, nullable=False),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("transport", sa.String(8), nullable=False),
        sa.Column("receiver", sa.String(64)),
        sa.Column("room", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("private", sa.Boolean, nullable=False),
        sa.Column("waits", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("chat_messages_by_id", "chat_messages", ["home", "origin", "id"], unique=True)
    op.create_index("chat_messages_by_position", "chat_messages", ["home", "position"], unique=True)
    op.create_index("chat_messages_by_date", "chat_messages", ["home", "at"])
    op.create_table(
        "chat_deliveries",
        sa.Column("number", SERIAL, primary_key=True),
        sa.Column("home", sa.String(32), nullable=False),
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("transport", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "chat_deliveries_by_id", "chat_deliveries", ["home", "id", "receiver"], unique=True
    )
    op.create_index("chat_deliveries_by_state", "chat_deliveries", ["home", "state"])
    op.create_table(
        "chat_sent_streams",
        sa.Column("home", sa.String(32), primary_key=True),
        sa.Column("receiver", sa.String(64), primary_key=True),
        sa.Column("room", sa.String(64), primary_key=True),
        sa.Column("lane", sa.String(8), primary_key=True),
        sa.Column("stream", sa.String(24), nullable=False),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("members", sa.Text, nullable=False),
    )
    op.create_table(
        "chat_received_streams",
        sa.Column("home", sa.String(32), primary_key=True),
        sa.Column("sender", sa.String(64), primary_key=True),
        sa.Column("stream", sa.String(24), primary_key=True),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("missing", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "chat_seen",
        sa.Column("home", sa.String(32), primary_key=True),
        sa.Column("origin", sa.String(65), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "chat_receipts",
        sa.Column("home", sa.String(32), primary_key=True),
        sa.Column("sender", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("private", sa.Boolean, primary_key=True),
    )
    op.create_table(
        "chat_groups",
        sa.Column("home", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("roster", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "chat_peers",
        sa.Column("number", SERIAL, primary_key=True),
        sa.Column("home", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("chat_peers_by_fingerprint", "chat_peers", ["home", "fingerprint"], unique=True)


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
