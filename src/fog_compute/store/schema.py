"""The tables, as the newest migration leaves them.

No table of tasks and circuits holds or joins a requester, a circuit or a message, and nothing leads
from a session to anything else.  ``attempts.worker`` is the daemon's own choice of worker and goes
with the task when its time to live ends.

The tables whose names begin with ``chat_`` are a person's own messages and contacts, on that
person's own machine: they say who wrote what to whom, as a mail program's folders do.  Nothing
leads from them to the other tables, or back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    and_,
    text,
)
from sqlalchemy.types import TypeDecorator

from fog_compute.store.dialects import partial_index
from fog_compute.tasks.model import WAITING_TASK_STATES

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Unreadable(datetime):
    """Stands for a time that cannot be read, so that one row does not hide the others."""


class UtcMicros(TypeDecorator[datetime]):
    """An aware UTC time as whole microseconds since 1970: exact and sortable on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        del dialect
        return None if value is None else (value - EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        del dialect
        try:
            return None if value is None else EPOCH + timedelta(microseconds=value)
        except (TypeError, OverflowError):
            return Unreadable(1, 1, 1, tzinfo=UTC)


Serial: Final = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database gives; SQLite does so for its own kind of integer alone."""

metadata: Final = MetaData()

tasks: Final = Table(
    "tasks",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("privacy", String(16), nullable=False),
    Column("spec", Text, nullable=False),  # TaskSpec as JSON
    Column("attempt", String(32)),
    Column("leases", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", UtcMicros),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcMicros, nullable=False),
    Column("updated_at", UtcMicros, nullable=False),
    Column("finished_at", UtcMicros),
    Column("kind", String(16), nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("hopeless_since", UtcMicros),
    Column("batch", String(26)),
    Column("group_name", String(32), nullable=False),
    Column("claimed_by", String(32)),  # the backend that looks for a worker for it
    Index("tasks_by_state", "state", "id"),
    Index("tasks_by_end", "finished_at"),
)

WAITING: Final = text(f"state IN ({', '.join(repr(s.value) for s in sorted(WAITING_TASK_STATES))})")
"""Which tasks wait for a worker; written out, so that the database finds its index for it."""

Index(
    "tasks_waiting",
    tasks.c.privacy,
    tasks.c.id,
    tasks.c.group_name,
    tasks.c.kind,
    tasks.c.memory_bytes,
    tasks.c.not_before,
    tasks.c.state,
    **partial_index(WAITING),
)
Index(
    "tasks_due",
    tasks.c.privacy,
    tasks.c.not_before,
    tasks.c.state,
    **partial_index(and_(WAITING, tasks.c.not_before.is_not(None))),
)
Index("tasks_by_batch", tasks.c.batch, tasks.c.id, **partial_index(tasks.c.batch.is_not(None)))
Index(
    "tasks_hopeless",
    tasks.c.hopeless_since,
    **partial_index(tasks.c.hopeless_since.is_not(None)),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("handle", String(32), primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("lease_until", UtcMicros, nullable=False),
    Column("created_at", UtcMicros, nullable=False),
    Column("updated_at", UtcMicros, nullable=False),
    Column("reason", Text, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("owner", String(32)),  # the backend that acts on it; None where there is only one
    Index("attempts_by_task", "task_id", "number", unique=True),
    Index("attempts_by_state", "state"),
)

results: Final = Table(
    "results",
    metadata,
    Column("handle", String(32), primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("data", LargeBinary, nullable=False),  # the result; of a large one, its head
    Column("blob", String(64)),  # where all of a large one is
    Column("receipt", LargeBinary, nullable=False),  # of its worker
    Column("stored_at", UtcMicros, nullable=False),
    Column("expires_at", UtcMicros, nullable=False),
    Index("results_by_task", "task_id"),
    Index("results_by_expiry", "expires_at"),
)

events: Final = Table(
    "events",
    metadata,
    Column("seq", Serial, primary_key=True),  # grows, over all tasks
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("batch", String(26)),  # that of the task
    Column("state", String(16), nullable=False),
    Column("attempt", String(32)),
    Column("reason", Text, nullable=False),
    Column("at", UtcMicros, nullable=False),
    Index("events_by_task", "task_id", "version", unique=True),
    sqlite_autoincrement=True,  # no number comes twice, also where the last ones were deleted
)
Index("events_by_batch", events.c.batch, events.c.seq, **partial_index(events.c.batch.is_not(None)))

task_blobs: Final = Table(
    "task_blobs",
    metadata,
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Index("task_blobs_by_sha256", "sha256"),
)

blobs: Final = Table(  # where no folder has them
    "blobs",
    metadata,
    Column("id", String(32), primary_key=True),  # random
    Column("sha256", String(64)),  # None of one that is still coming
    Column("size", BigInteger, nullable=False),
    Column("put_at", UtcMicros, nullable=False),
    Index("blobs_by_sha256", "sha256", unique=True),
    Index("blobs_by_date", "put_at"),
)

blob_pieces: Final = Table(
    "blob_pieces",
    metadata,
    Column("blob", ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

task_keys: Final = Table(
    "task_keys",
    metadata,
    Column("key", String(64), primary_key=True),  # random, chosen by whoever asked for the task
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),  # the first
    Column("made", Integer),  # how many; None of those that are older than this column
    Index("task_keys_by_task", "task_id", unique=True),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", String(12), primary_key=True),  # public; the key begins with it
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False),  # of the whole key, which is kept nowhere
    Column("scopes", String(64), nullable=False),  # joined by commas
    Column("created_at", UtcMicros, nullable=False),
    Column("expires_at", UtcMicros),
    Column("used_at", UtcMicros),  # lags behind: see `fog_compute.server.callers`
    Column("revoked_at", UtcMicros),
)

logins: Final = Table(
    "logins",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the cookie, which is kept nowhere
    Column("key_id", String(12), nullable=False),
    Column("key_sha256", String(64), nullable=False),  # a login ends with the key it came from
    Column("created_at", UtcMicros, nullable=False),
    Column("expires_at", UtcMicros, nullable=False),
    Index("logins_by_key", "key_id", "created_at"),
)

level_statistics: Final = Table(
    "level_statistics",
    metadata,
    Column("level", String(16), primary_key=True),
    Column("submitted", BigInteger, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("run_ms", BigInteger, nullable=False),
)

backends: Final = Table(
    "backends",
    metadata,
    Column("id", String(32), primary_key=True),  # random, drawn anew whenever one joins
    Column("home", String(32), nullable=False),  # random, kept in its home folder
    Column("beat", BigInteger, nullable=False),  # counted up as long as it lives
    Index("backends_by_home", "home", unique=True),
)

circuit_statistics: Final = Table(
    "circuit_statistics",
    metadata,
    Column("level", String(16), primary_key=True),
    Column("circuits", BigInteger, nullable=False),
    Column("rotations", BigInteger, nullable=False),
    Column("bytes_sent", BigInteger, nullable=False),
    Column("bytes_received", BigInteger, nullable=False),
    Column("packets_sent", BigInteger, nullable=False),
    Column("surbs_sent", BigInteger, nullable=False),
)

sessions: Final = Table(  # that use circuits of their own
    "sessions",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("home", String(32), nullable=False),  # of the backend that has it
    Column("digest", LargeBinary, nullable=False),  # of its token
    Column("level", String(16), nullable=False),
    Column("apart", Boolean, nullable=False),
    Column("opened_at", UtcMicros, nullable=False),
    Column("used_at", UtcMicros, nullable=False),  # to the minute
    Column("quota_bytes", BigInteger),
    Column("bytes_sent", BigInteger, nullable=False),
    Column("bytes_received", BigInteger, nullable=False),
    Index("sessions_by_home", "home"),
)

_PERSON: Final = 64
"""Digits of a fingerprint."""

chat_messages: Final = Table(
    "chat_messages",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("home", String(32), nullable=False),  # whose messages these are
    Column("origin", String(_PERSON + 1), nullable=False),  # the sender; behind "?" if not proved
    Column("id", String(255), nullable=False),
    Column("position", BigInteger),  # in the log; None while it waits for others of its stream
    Column("outgoing", Boolean, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("transport", String(8), nullable=False),  # over which it came; empty of ours
    Column("receiver", String(_PERSON)),
    Column("room", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("name", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("waits", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),  # as its sender says
    Column("expires_ms", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", UtcMicros, nullable=False),  # when it was made or came
    Index("chat_messages_by_id", "home", "origin", "id", unique=True),
    Index("chat_messages_by_position", "home", "position", unique=True),
    Index("chat_messages_by_date", "home", "at"),
)

chat_deliveries: Final = Table(
    "chat_deliveries",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("home", String(32), nullable=False),
    Column("id", String(255), nullable=False),  # of a message of ours
    Column("receiver", String(_PERSON), nullable=False),  # empty of what goes to all
    Column("state", String(16), nullable=False),
    Column("transport", String(8), nullable=False),  # over which it was stored
    Column("attempts", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("updated_at", UtcMicros, nullable=False),
    Index("chat_deliveries_by_id", "home", "id", "receiver", unique=True),
    Index("chat_deliveries_by_state", "home", "state"),
)

chat_sent_streams: Final = Table(
    "chat_sent_streams",
    metadata,
    Column("home", String(32), primary_key=True),
    Column("receiver", String(_PERSON), primary_key=True),
    Column("room", String(64), primary_key=True),
    Column("lane", String(8), primary_key=True),
    Column("stream", String(24), nullable=False),
    Column("next", BigInteger, nullable=False),
    Column("members", Text, nullable=False),  # JSON
)

chat_received_streams: Final = Table(
    "chat_received_streams",
    metadata,
    Column("home", String(32), primary_key=True),
    Column("sender", String(_PERSON), primary_key=True),
    Column("stream", String(24), primary_key=True),
    Column("next", BigInteger, nullable=False),
    Column("missing", Text, nullable=False),  # JSON
    Column("until", UtcMicros, nullable=False),
)

chat_seen: Final = Table(
    "chat_seen",
    metadata,
    Column("home", String(32), primary_key=True),
    Column("origin", String(_PERSON + 1), primary_key=True),
    Column("id", String(255), primary_key=True),
    Column("until", UtcMicros, nullable=False),
)

chat_receipts: Final = Table(  # that are owed
    "chat_receipts",
    metadata,
    Column("home", String(32), primary_key=True),
    Column("sender", String(_PERSON), primary_key=True),
    Column("id", String(255), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("private", Boolean, primary_key=True),
)

chat_groups: Final = Table(
    "chat_groups",
    metadata,
    Column("home", String(32), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("roster", LargeBinary, nullable=False),
    Column("updated_at", UtcMicros, nullable=False),
)

chat_peers: Final = Table(
    "chat_peers",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("home", String(32), nullable=False),
    Column("fingerprint", String(_PERSON), nullable=False),
    Column("record", Text, nullable=False),  # JSON: keys, names, trust, addresses
    Index("chat_peers_by_fingerprint", "home", "fingerprint", unique=True),
)

last_run: Final = Table(
    "last_run",
    metadata,
    Column("boot", String(64), primary_key=True),
    Column("booted_at", UtcMicros, nullable=False),
)
