"""The book of messages on the store's tables: which rows a change means, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from fog_compute.p2p.core.book import (
    Begun,
    BookChange,
    BookState,
    Delivery,
    HeldId,
    InStreamRecord,
    Kept,
    LogEntry,
    OutStream,
    ReceiptOwed,
    ReceiptSent,
    Released,
    RosterKept,
    SeenId,
    Settled,
    may_follow,
    origin,
)
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    Priority,
)
from fog_compute.p2p.core.peer import Peer
from fog_compute.p2p.core.transport import TransportType
from fog_compute.store.messages import (
    Added,
    Answered,
    Emptied,
    Messages,
    Moved,
    Placed,
    Put,
    Write,
)

__all__ = ["StoreBook"]

T = TypeVar("T")

Row: TypeAlias = Mapping[Any, Any]
"""A row of the store, by its columns."""

KEEP_DAYS: Final = 90
"""How long messages stay in the log unless somebody says otherwise."""

GIVEN_UP: Final = frozenset({DeliveryState.FAILED, DeliveryState.EXPIRED})
"""States that have a reason."""

_BEFORE: Final = {
    state: tuple(one.value for one in DeliveryState if may_follow(one, state))
    for state in DeliveryState
}


class StoreBook:
    """A `MessageBook` and a `PeerStorage` of one person, on the rows of one home."""

    def __init__(self, messages: Messages, own: str, keep_days: int = KEEP_DAYS) -> None:
        """Write what belongs to the person with the fingerprint ``own``."""
        self._messages: Final = messages
        self._own: Final = own
        self._keep: Final = timedelta(days=keep_days)

    async def load(self, now: float) -> BookState:
        """Everything that is not over.

        Raises:
            StoreError: it cannot be read now.
        """
        rows = await self._messages.unfinished(_date(now))
        return BookState(
            next_position=rows.last_position + 1,
            deliveries=tuple(self._delivery(row) for row in rows.deliveries),
            out_streams=_readable(rows.sent_streams, _out_stream),
            in_streams=_readable(rows.received_streams, _in_stream),
            held=tuple(HeldId(r["origin"], r["id"], r["at"].timestamp()) for r in rows.held),
            seen=tuple(SeenId(r["origin"], r["id"], r["until"].timestamp()) for r in rows.seen),
            receipts=_readable(rows.receipts, _receipt),
            rosters=_readable(await self._messages.groups(), _roster),
        )

    async def commit(self, changes: Sequence[BookChange]) -> None:
        """Write all of them, or none; written again, nothing changes.

        Raises:
            StoreError: they are not written.
        """
        await self._messages.write([one for change in changes for one in self._writes(change)])

    async def message(self, sender: str, id: str) -> DecentralizedMessage | None:  # noqa: A002
        """A message with its body; None where there is none any more."""
        row = await self._messages.message(sender, id)
        return None if row is None else self._message(row)

    async def log(
        self,
        after: int,
        limit: int,
        room: str | None = None,
        person: str | None = None,
        *,
        last: bool = False,
    ) -> list[LogEntry]:
        """Messages whose position is above ``after``, in order, at most ``limit``.

        Args:
            after: a position; 0 for the first.
            limit: how many.
            room: only of this room or group; "" for what has none.
            person: only what was written to, or comes from, this person.
            last: the last ones, instead of the first.
        """
        rows = await self._messages.log(after, limit, room=room, person=person, last=last)
        states: dict[str, dict[str, DeliveryState]] = {}
        reasons: dict[str, dict[str, str]] = {}
        for row in await self._messages.states([row["id"] for row in rows if row["outgoing"]]):
            state = states.setdefault(row["id"], {})[row["receiver"]] = DeliveryState(row["state"])
            if state in GIVEN_UP:
                reasons.setdefault(row["id"], {})[row["receiver"]] = row["reason"]
        return [
            LogEntry(
                row["position"],
                self._message(row),
                row["outgoing"],
                not row["origin"].startswith("?"),
                row["late"],
                row["at"].timestamp(),
                states.get(row["id"], {}) if row["outgoing"] else {},
                reasons.get(row["id"], {}) if row["outgoing"] else {},
            )
            for row in rows
        ]

    async def sweep(self, now: float) -> int:
        """Forget what is over and older than is kept; return how many messages that were."""
        return await self._messages.sweep(_date(now), self._keep)

    async def wipe(self) -> None:
        """Delete every message, contact and group of this person."""
        await self._messages.wipe()

    async def load_peers(self) -> Sequence[Peer]:
        """Everybody whom one knows; who cannot be read is left out."""
        rows = await self._messages.peers()
        return _readable(rows, lambda row: msgspec.json.decode(row["record"], type=Peer))

    async def save_peers(self, kept: Sequence[Peer], dropped: Sequence[str]) -> None:
        """Keep these as they are now, and forget those with these fingerprints."""
        records = {one.fingerprint: msgspec.json.encode(one).decode() for one in kept}
        await self._messages.keep_peers(records, dropped)

    async def scrub(self) -> None:
        """Leave nothing in the files of what is deleted, such as the keys of a group."""
        await self._messages.scrub()

    def _writes(self, change: BookChange) -> list[Write]:
        match change:
            case Begun():
                return self._begun(change)
            case Settled():
                values: dict[str, object] = {
                    "state": change.state.value,
                    "attempts": change.attempts,
                    "reason": change.reason,
                    "updated_at": _date(change.at),
                }
                if change.transport is not None:
                    values["transport"] = change.transport.value
                return [Moved(change.id, change.receiver, _BEFORE[change.state], values)]
            case OutStream():
                return [_stream_row(change)]
            case Kept():
                return self._kept(change)
            case Released():
                return [Placed(change.sender, change.id, change.position)]
            case InStreamRecord():
                return [
                    Put(
                        "chat_received_streams",
                        {
                            "sender": change.sender,
                            "stream": change.stream,
                            "next": change.next,
                            "missing": msgspec.json.encode(change.missing).decode(),
                            "until": _date(change.until),
                        },
                    )
                ]
            case ReceiptOwed():
                row: dict[str, object] = {
                    "sender": change.sender,
                    "id": change.id,
                    "state": change.state.value,
                    "private": change.private,
                }
                return [Added("chat_receipts", row)]
            case RosterKept():
                at = _date(change.at)
                named = {"id": change.group, "roster": change.roster, "updated_at": at}
                # What brought the rosters of before; not what brings this one, if it is there.
                older = at - timedelta(milliseconds=1)
                emptied = Emptied(change.group, MessageKind.CONTROL.value, older)
                return [emptied, Put("chat_groups", named)]
            case ReceiptSent():
                return [Answered(change.sender, change.ids, change.state.value)]

    def _begun(self, change: Begun) -> list[Write]:
        message = change.message
        at = _date(message.created_ms / 1000)
        writes: list[Write] = [
            Added(
                "chat_messages",
                {
                    **_columns(message, self._own, at),
                    "position": change.position,
                    "outgoing": True,
                    "late": False,
                    "transport": "",
                },
            )
        ]
        writes += [
            Added(
                "chat_deliveries",
                {
                    "id": message.id,
                    "receiver": receiver,
                    "state": DeliveryState.QUEUED.value,
                    "transport": "",
                    "attempts": 0,
                    "reason": "",
                    "updated_at": at,
                },
            )
            for receiver in change.receivers
        ]
        if change.stream is not None:
            writes.append(_stream_row(change.stream))
        return writes

    def _kept(self, change: Kept) -> list[Write]:
        message = change.message
        by = origin(message.sender, change.verified)
        writes: list[Write] = [
            Added(
                "chat_messages",
                {
                    **_columns(message, by, _date(change.at)),
                    "position": change.position,
                    "outgoing": False,
                    "late": change.late,
                    "transport": change.transport.value,
                },
            )
        ]
        if change.until is not None:
            row = {"origin": by, "id": message.id, "until": _date(change.until)}
            writes.append(Added("chat_seen", row))
        return writes

    def _message(self, row: Row) -> DecentralizedMessage:
        return _message(row, row["origin"].removeprefix("?"), row["receiver"], row["body"])

    def _delivery(self, row: Row) -> Delivery:
        transport = row["transport"]
        return Delivery(
            message=_message(row, self._own, row["written_to"], b""),
            size=row["size"],
            receiver=row["receiver"],
            state=DeliveryState(row["state"]),
            transport=TransportType(transport) if transport else None,
            attempts=row["attempts"],
            reason=row["reason"],
        )


def _readable(rows: Iterable[Row], read: Callable[[Row], T]) -> tuple[T, ...]:
    """What can be read of some rows.

    A stream that cannot be begins anew, a receipt is asked for again, and the next roster of its
    maker takes the place of one.
    """
    found: list[T] = []
    for row in rows:
        try:
            found.append(read(row))
        except (ValueError, TypeError):
            continue
    return tuple(found)


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _columns(message: DecentralizedMessage, by: str, at: datetime) -> dict[str, object]:
    return {
        "origin": by,
        "id": message.id,
        "receiver": message.receiver_id,
        "room": message.room,
        "kind": message.kind.value,
        "media_type": message.media_type,
        "name": message.name,
        "priority": int(message.priority),
        "private": message.requires_privacy,
        "waits": message.offline_capable,
        "created_ms": message.created_ms,
        "expires_ms": message.expires_ms,
        "size": len(message.body),
        "body": message.body,
        "at": at,
    }


def _message(row: Row, sender: str, receiver: str | None, body: bytes) -> DecentralizedMessage:
    return DecentralizedMessage(
        body=body,
        receiver_id=receiver,
        room=row["room"],
        media_type=row["media_type"],
        name=row["name"],
        priority=Priority(row["priority"]),
        requires_privacy=row["private"],
        offline_capable=row["waits"],
        kind=MessageKind(row["kind"]),
        id=row["id"],
        sender=sender,
        created_ms=row["created_ms"],
        expires_ms=row["expires_ms"],
    )


def _stream_row(stream: OutStream) -> Put:
    return Put(
        "chat_sent_streams",
        {
            "receiver": stream.receiver,
            "room": stream.room,
            "lane": stream.lane,
            "stream": stream.stream,
            "next": stream.next,
            "members": msgspec.json.encode(stream.members).decode(),
        },
    )


def _out_stream(row: Row) -> OutStream:
    members = msgspec.json.decode(row["members"], type=tuple[str, ...])
    return OutStream(row["receiver"], row["room"], row["lane"], row["stream"], row["next"], members)


def _receipt(row: Row) -> ReceiptOwed:
    state = DeliveryState(row["state"])
    if state not in {DeliveryState.DELIVERED, DeliveryState.READ}:
        raise ValueError("a receipt says delivered or read")
    return ReceiptOwed(row["sender"], row["id"], state, row["private"])


def _roster(row: Row) -> tuple[str, bytes]:
    if not isinstance(row["roster"], bytes):
        raise TypeError("a roster is bytes")
    return row["id"], row["roster"]


def _in_stream(row: Row) -> InStreamRecord:
    missing = msgspec.json.decode(row["missing"], type=tuple[tuple[int, int], ...])
    return InStreamRecord(
        row["sender"], row["stream"], row["next"], missing, row["until"].timestamp()
    )
