"""A person's own messages, contacts and groups: rows, and the transactions that change them.

What they mean is known above (`fog_compute.p2p.store_book`). Here a change says which rows are
added, replaced or deleted; it may be written again, and then changes nothing. Rows of several homes
in one database know nothing of each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, delete, select, update

from fog_compute.store import schema
from fog_compute.store.damage import Damaged, Damages, RowDamaged
from fog_compute.store.dialects import add_new, put
from fog_compute.store.reader import Reader, in_parts
from fog_compute.store.rows import Types, Values, check_types
from fog_compute.store.writer import Writer

__all__ = [
    "Added",
    "Answered",
    "ChatRows",
    "Emptied",
    "Messages",
    "Moved",
    "Placed",
    "Put",
    "Write",
    "delivery_row",
    "message_row",
    "peer_row",
]

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "chat_messages": ("home", "origin", "id"),
    "chat_deliveries": ("home", "id", "receiver"),
    "chat_sent_streams": ("home", "receiver", "room", "lane"),
    "chat_received_streams": ("home", "sender", "stream"),
    "chat_seen": ("home", "origin", "id"),
    "chat_receipts": ("home", "sender", "id", "state", "private"),
    "chat_groups": ("home", "id"),
    "chat_peers": ("home", "fingerprint"),
}
"""By what a row is told apart."""

TABLES: Final = tuple(schema.metadata.tables[name] for name in _KEYS)

OPEN: Final = ("queued", "stored")
"""States of a delivery that is not over."""

_MESSAGE: Final = tuple(c for c in schema.chat_messages.c if c.name not in {"number", "home"})
_HEAD: Final = tuple(c for c in _MESSAGE if c.name != "body")


@dataclass(frozen=True, slots=True)
class Added:
    """A row, unless there is one with its key."""

    table: str
    row: Values


@dataclass(frozen=True, slots=True)
class Put:
    """A row, in place of the one with its key."""

    table: str
    row: Values


@dataclass(frozen=True, slots=True)
class Placed:
    """A message that waited has its place in the log, if it has none."""

    origin: str
    id: str
    position: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A delivery in one of some states gets other values."""

    id: str
    receiver: str
    before: tuple[str, ...]
    values: Values


@dataclass(frozen=True, slots=True)
class Answered:
    """Receipts are no longer owed."""

    sender: str
    ids: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """All older messages of one kind to a whole room lose their bodies."""

    room: str
    kind: str
    before: datetime


Write: TypeAlias = Added | Put | Placed | Moved | Answered | Emptied


@dataclass(frozen=True, slots=True)
class ChatRows:
    """What is not over, of one home.

    Attributes:
        last_position: the highest place in the log; 0 without one.
        deliveries: open ones, each with its message's columns but the body.
        sent_streams: of ours.
        received_streams: of others, of which something may still come.
        held: messages that wait for others: ``origin``, ``id`` and ``at``.
        seen: opaque ids that may still come again.
        receipts: that are owed.
    """

    last_position: int
    deliveries: Sequence[RowMapping]
    sent_streams: Sequence[RowMapping]
    received_streams: Sequence[RowMapping]
    held: Sequence[RowMapping]
    seen: Sequence[RowMapping]
    receipts: Sequence[RowMapping]


class Messages(Reader):
    """The rows of one home."""

    __slots__ = ("_home", "_vacuum", "_writer")

    def __init__(
        self,
        engine: Engine,
        damages: Damages,
        writer: Writer,
        home: str,
        vacuum: Callable[[Connection], None] | None,
    ) -> None:
        """Read from ``engine``, write through ``writer``, of ``home`` alone.

        ``vacuum`` clears the room that deleted rows left; without it a server sees to that.
        """
        super().__init__(engine, damages)
        self._writer = writer
        self._home = home
        self._vacuum = vacuum

    async def unfinished(self, now: datetime) -> ChatRows:
        """What the next run goes on with.

        Raises:
            StoreError: the database cannot be read now.
        """
        messages, deliveries = schema.chat_messages, schema.chat_deliveries
        last = (
            select(messages.c.position)
            .where(messages.c.home == self._home, messages.c.position.is_not(None))
            .order_by(messages.c.position.desc())
            .limit(1)
        )
        joined = (
            select(
                *(c for c in _HEAD if c.name not in {"id", "receiver", "transport"}),
                messages.c.receiver.label("written_to"),
                *(deliveries.c[name] for name in _DELIVERY_TYPES),
            )
            .join_from(
                deliveries,
                messages,
                (messages.c.home == deliveries.c.home)
                & (messages.c.id == deliveries.c.id)
                & messages.c.outgoing,
            )
            .where(deliveries.c.home == self._home, deliveries.c.state.in_(OPEN))
            .order_by(messages.c.position)
        )
        held = select(messages.c.origin, messages.c.id, messages.c.at).where(
            messages.c.home == self._home, messages.c.position.is_(None)
        )
        streams = schema.chat_received_streams
        found = await self.rows(last)
        return ChatRows(
            found[0]["position"] if found else 0,
            self._damages.whole(await self.rows(joined), delivery_row),
            await self.rows(self._of(schema.chat_sent_streams)),
            await self.rows(self._of(streams).where(streams.c.until >= now)),
            await self.rows(held),
            await self.rows(self._of(schema.chat_seen).where(schema.chat_seen.c.until >= now)),
            await self.rows(self._of(schema.chat_receipts)),
        )

    async def write(self, changes: Sequence[Write]) -> None:
        """Write all of them, or none.

        Raises:
            StoreError: the database refused; nothing was written.
        """
        if changes:
            await self._writer.do(lambda connection: self._write(connection, changes))

    async def message(self, origin: str, message_id: str) -> RowMapping | None:
        """One message with its body; None if there is none, or it cannot be read.

        Raises:
            StoreError: the database cannot be read now.
        """
        columns = schema.chat_messages.c
        query = select(*_MESSAGE).where(
            columns.home == self._home, columns.origin == origin, columns.id == message_id
        )
        rows = self._damages.whole(await self.rows(query), message_row)
        return rows[0] if rows else None

    async def log(
        self, after: int, limit: int, *, room: str | None, person: str | None, last: bool
    ) -> Sequence[RowMapping]:
        """Messages behind a place of the log, in order, with their bodies.

        Args:
            after: the place.
            limit: how many at most.
            room: only of this room.
            person: only what was written to, or comes from, this person.
            last: the last ones, instead of the first.
        """
        columns = schema.chat_messages.c
        query = select(*_MESSAGE).where(columns.home == self._home, columns.position > after)
        if room is not None:
            query = query.where(columns.room == room)
        if person is not None:
            query = query.where((columns.origin == person) | (columns.receiver == person))
        order = columns.position.desc() if last else columns.position
        rows = await self.rows(query.order_by(order).limit(limit))
        whole = self._damages.whole(rows, message_row)
        return whole[::-1] if last else whole

    async def states(self, ids: Collection[str]) -> Sequence[RowMapping]:
        """The deliveries of some messages of ours."""
        table = schema.chat_deliveries
        names = ("id", "receiver", "state", "transport", "reason")
        query = select(*(table.c[name] for name in names)).where(table.c.home == self._home)
        rows = await self.rows_of(query.order_by(table.c.receiver), table.c.id, ids)
        return self._damages.whole(rows, _state_row)

    async def peers(self) -> Sequence[RowMapping]:
        """Everybody whom one knows."""
        return self._damages.whole(await self.rows(self._of(schema.chat_peers)), peer_row)

    async def keep_peers(self, kept: Mapping[str, str], dropped: Iterable[str]) -> None:
        """Replace records of people by their fingerprint, and forget others.

        Raises:
            StoreError: the database refused; nothing was written.
        """
        table = schema.chat_peers
        rows = [
            {"home": self._home, "fingerprint": one, "record": record}
            for one, record in kept.items()
        ]
        gone = list(dropped)

        def work(connection: Connection) -> None:
            put(connection, table, _KEYS[table.name], rows)
            for some in in_parts(gone):
                mine = table.c.home == self._home
                connection.execute(delete(table).where(mine, table.c.fingerprint.in_(some)))

        await self._writer.do(work)

    async def groups(self) -> Sequence[RowMapping]:
        """The rosters of all groups."""
        return await self.rows(self._of(schema.chat_groups))

    async def sweep(self, now: datetime, keep: timedelta) -> int:
        """Delete messages that are over and older than ``keep``; return how many.

        With them what is remembered of ids that cannot come any more.
        """
        return await self._writer.do(lambda connection: self._sweep(connection, now, keep))

    async def wipe(self) -> None:
        """Delete everything of this home, at once, and what is left of it in the files.

        Raises:
            StoreError: the database refused; the text says whether anything was deleted.
        """

        def work(connection: Connection) -> None:
            for table in TABLES:
                connection.execute(delete(table).where(table.c.home == self._home))

        await self._writer.do(work)
        await self.scrub()

    async def scrub(self) -> None:
        """Leave nothing in the files of what is deleted or replaced.

        Raises:
            StoreError: there is no room for that now.
        """
        if self._vacuum is not None:
            # Until then it stays in the log and in free pages, where anybody finds it.
            await self._writer.apart(
                "messages are deleted, and yet what they said may still stand in the file of the"
                " database: try once more when there is room on the disk",
                self._vacuum,
            )

    def _of(self, table: Table) -> Select[*tuple[object, ...]]:
        return select(table).where(table.c.home == self._home)

    def _write(self, connection: Connection, changes: Sequence[Write]) -> None:
        # Neighbours of one kind go together; the order of all others is kept.
        for (kind, name), some in itertools.groupby(changes, _kind):
            if kind is Added or kind is Put:
                rows = [
                    {"home": self._home, **one.row} for one in some if isinstance(one, Added | Put)
                ]
                how = add_new if kind is Added else put
                how(connection, schema.metadata.tables[name], _KEYS[name], rows)
                continue
            for change in some:
                self._change(connection, change)

    def _change(self, connection: Connection, change: Write) -> None:
        messages, deliveries = schema.chat_messages, schema.chat_deliveries
        receipts = schema.chat_receipts
        match change:
            case Placed():
                connection.execute(
                    update(messages)
                    .where(
                        messages.c.home == self._home,
                        messages.c.origin == change.origin,
                        messages.c.id == change.id,
                        messages.c.position.is_(None),
                    )
                    .values(position=change.position)
                )
            case Moved():
                connection.execute(
                    update(deliveries)
                    .where(
                        deliveries.c.home == self._home,
                        deliveries.c.id == change.id,
                        deliveries.c.receiver == change.receiver,
                        deliveries.c.state.in_(change.before),
                    )
                    .values(change.values)
                )
            case Answered():
                connection.execute(
                    delete(receipts).where(
                        receipts.c.home == self._home,
                        receipts.c.sender == change.sender,
                        receipts.c.state == change.state,
                        receipts.c.id.in_(change.ids),
                    )
                )
            case Emptied(room, kind, before):
                connection.execute(
                    update(messages)
                    .where(
                        messages.c.home == self._home,
                        messages.c.room == room,
                        messages.c.receiver.is_(None),
                        messages.c.kind == kind,
                        messages.c.at < before,
                    )
                    .values(body=b"")
                )

    def _sweep(self, connection: Connection, now: datetime, keep: timedelta) -> int:
        messages, deliveries = schema.chat_messages, schema.chat_deliveries
        for table in (schema.chat_seen, schema.chat_received_streams):
            connection.execute(delete(table).where(table.c.home == self._home, table.c.until < now))
        still = select(deliveries.c.id).where(
            deliveries.c.home == self._home, deliveries.c.state.in_(OPEN)
        )
        # The last place stays taken: what comes next must not get one that was given before.
        last = (
            select(messages.c.number)
            .where(messages.c.home == self._home, messages.c.position.is_not(None))
            .order_by(messages.c.position.desc())
            .limit(1)
            .scalar_subquery()
        )
        gone = connection.execute(
            delete(messages).where(
                messages.c.home == self._home,
                messages.c.at < now - keep,
                messages.c.position.is_not(None),
                messages.c.number != last,
                ~(messages.c.outgoing & messages.c.id.in_(still)),
            )
        )
        connection.execute(
            delete(deliveries).where(
                deliveries.c.home == self._home,
                deliveries.c.updated_at < now - keep,
                deliveries.c.state.not_in(OPEN),
            )
        )
        return gone.rowcount


def _kind(change: Write) -> tuple[type[Write], str]:
    return type(change), change.table if isinstance(change, Added | Put) else ""


def _checked(row: RowMapping, table: str, key: object, types: Types) -> RowMapping:
    try:
        check_types(row, types)
        for name, allowed in _ALLOWED.items():
            if name in row and row[name] not in allowed:
                raise ValueError(f"its {name} is none")
    except (TypeError, ValueError) as err:
        raise RowDamaged(Damaged.of(table, key, err)) from err
    return row


def message_row(row: RowMapping) -> RowMapping:
    """The row of a message, if it can be read.

    Raises:
        RowDamaged: it cannot.
    """
    return _checked(row, "chat_messages", row["id"], _MESSAGE_TYPES)


def delivery_row(row: RowMapping) -> RowMapping:
    """The row of a delivery, if it can be read.

    Raises:
        RowDamaged: it cannot.
    """
    return _checked(row, "chat_deliveries", row["id"], _DELIVERY_TYPES)


def _state_row(row: RowMapping) -> RowMapping:
    return _checked(row, "chat_deliveries", row["id"], _STATE_TYPES)


def peer_row(row: RowMapping) -> RowMapping:
    """The row of a person, if it can be read.

    Raises:
        RowDamaged: it cannot.
    """
    return _checked(row, "chat_peers", row["fingerprint"], _PEER_TYPES)


_ALLOWED: Final[Mapping[str, frozenset[object]]] = {
    "state": frozenset({*OPEN, "accepted", "delivered", "read", "failed", "expired"}),
    "kind": frozenset({"text", "file", "receipt", "control"}),
    "priority": frozenset({0, 1, 2, 3}),
    "transport": frozenset({"", "htx", "ble"}),
}
"""The values of columns that have names for them."""

_DELIVERY_TYPES: Final[Types] = {
    **dict.fromkeys(("id", "receiver", "state", "transport", "reason"), (str,)),
    "attempts": (int,),
    "updated_at": (datetime,),
}

_STATE_TYPES: Final[Types] = dict.fromkeys(
    ("id", "receiver", "state", "transport", "reason"), (str,)
)

_PEER_TYPES: Final[Types] = {"record": (str,), "fingerprint": (str,)}

_MESSAGE_TYPES: Final[Types] = {
    **dict.fromkeys(("origin", "id", "transport", "room", "kind", "media_type", "name"), (str,)),
    "receiver": (str, type(None)),
    **dict.fromkeys(("priority", "created_ms", "expires_ms", "size"), (int,)),
    **dict.fromkeys(("outgoing", "late", "private", "waits"), (bool,)),
    "body": (bytes,),
    "at": (datetime,),
}
