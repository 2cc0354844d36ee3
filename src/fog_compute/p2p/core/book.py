"""What survives a crash: the records that the router hands out to be kept, and takes up again.

The router changes nothing on a disk. It gives out changes; whoever drives it commits them, all of
one action or none, before it carries out what came after them. So what others were told is kept
here, and what is kept twice is kept once: each change may be written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.transport import TransportType

__all__ = [
    "NO_PLACE",
    "Begun",
    "BookChange",
    "BookState",
    "Delivery",
    "HeldId",
    "InStreamRecord",
    "Kept",
    "LogEntry",
    "MessageBook",
    "OutStream",
    "ReceiptOwed",
    "ReceiptSent",
    "Released",
    "RosterKept",
    "SeenId",
    "Settled",
    "may_follow",
    "origin",
]


NO_PLACE: Final = 2**32 - 1
"""In this place of a stream stands no message."""


@dataclass(frozen=True, slots=True)
class OutStream:
    """A stream of ours.

    Attributes:
        receiver: a fingerprint, or "" where all members of the room get the same.
        room: see `DecentralizedMessage.room`.
        lane: of all messages in it.
        stream: its name, 24 hexadecimal digits.
        next: the sequence of the next message; `NO_PLACE` where another stream begins.
        members: to whom its messages go, where that is a group.
    """

    receiver: str
    room: str
    lane: str
    stream: str
    next: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InStreamRecord:
    """Somebody's stream, as it is written down.

    Attributes:
        sender: whose it is.
        stream: its name.
        next: what comes next; all before it came, or is in ``missing``.
        missing: ranges that were passed over, each from its first to before its last.
        until: seconds since 1970 until which a message of it may still come.
    """

    sender: str
    stream: str
    next: int
    missing: tuple[tuple[int, int], ...]
    until: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a message of ours stands with one recipient.

    Attributes:
        message: without its body.
        size: bytes of the body.
        receiver: a fingerprint, or "" of all who are near.
        state: one of those that are written down: queued, stored, or a final one.
        transport: over which it was stored; None otherwise.
        attempts: how often a transport took it.
        reason: one line, where it failed.
    """

    message: DecentralizedMessage
    size: int
    receiver: str
    state: DeliveryState
    transport: TransportType | None = None
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A message of ours is in the outbox; with it, its stream, and its place in the log."""

    message: DecentralizedMessage
    receivers: tuple[str, ...]
    position: int
    stream: OutStream | None


@dataclass(frozen=True, slots=True)
class Settled:
    """A message of ours came to a state that is written down."""

    id: str
    receiver: str
    state: DeliveryState
    transport: TransportType | None
    attempts: int
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Kept:
    """Somebody's message is here.

    Attributes:
        message: all of it.
        verified: its sender is proved.
        transport: over which it came first.
        position: its place in the log; None while it waits for others of its stream.
        late: it came after others of its stream were shown that follow it.
        at: when, seconds since 1970.
        until: when its id may be forgotten, of an opaque id; None where its stream says it.
    """

    message: DecentralizedMessage
    verified: bool
    transport: TransportType
    position: int | None
    late: bool
    at: float
    until: float | None


@dataclass(frozen=True, slots=True)
class Released:
    """A message that waited has its place in the log now."""

    sender: str
    id: str
    position: int


@dataclass(frozen=True, slots=True)
class ReceiptOwed:
    """The sender of a message is to be told of it; privately, where the message asked for that."""

    sender: str
    id: str
    state: DeliveryState
    private: bool = False


@dataclass(frozen=True, slots=True)
class ReceiptSent:
    """The sender was told, as far as can be known here."""

    sender: str
    ids: tuple[str, ...]
    state: DeliveryState


@dataclass(frozen=True, slots=True)
class RosterKept:
    """A group has another roster, with another key; of those of before nothing stays.

    Attributes:
        group: its id.
        roster: all of it; nothing of a group that one left.
        at: when, seconds since 1970.
    """

    group: str
    roster: bytes
    at: float


BookChange: TypeAlias = (
    Begun
    | Settled
    | OutStream
    | Kept
    | Released
    | InStreamRecord
    | ReceiptOwed
    | ReceiptSent
    | RosterKept
)


@dataclass(frozen=True, slots=True)
class SeenId:
    """An opaque id that came, and is not shown again until then."""

    sender: str
    id: str
    until: float


@dataclass(frozen=True, slots=True)
class HeldId:
    """A message that waits for others of its stream, as it is read back."""

    sender: str
    id: str
    at: float


@dataclass(frozen=True, slots=True)
class BookState:
    """All that a router needs to go on where another one ended."""

    next_position: int = 1
    deliveries: tuple[Delivery, ...] = ()  # those that are not final
    out_streams: tuple[OutStream, ...] = ()
    in_streams: tuple[InStreamRecord, ...] = ()
    held: tuple[HeldId, ...] = ()
    seen: tuple[SeenId, ...] = ()
    receipts: tuple[ReceiptOwed, ...] = ()
    rosters: tuple[tuple[str, bytes], ...] = ()  # by group; empty of one that was left


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A message in the log, which is what a person sees: ours and others', in one order.

    Attributes:
        position: its place, from 1; it never changes, and a later message has a higher one.
        message: without its body, where it was asked for so.
        outgoing: it is ours.
        verified: its sender is proved.
        late: see `Kept`.
        states: of ours, where it stands with each recipient, as far as is written down.
        reasons: of ours, why it failed, expired or waits, by recipient.
        at: when it was made or came, seconds since 1970.
    """

    position: int
    message: DecentralizedMessage
    outgoing: bool
    verified: bool
    late: bool
    at: float
    states: dict[str, DeliveryState] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def may_follow(before: DeliveryState, state: DeliveryState) -> bool:
    """Whether a state replaces one that is written down.

    What is written twice changes nothing, and what the recipient said stays said.
    """
    if before is DeliveryState.DELIVERED:
        return state is DeliveryState.READ
    if before in {DeliveryState.FAILED, DeliveryState.EXPIRED}:
        return state in {DeliveryState.DELIVERED, DeliveryState.READ}
    return before is not DeliveryState.READ


def origin(sender: str, verified: bool) -> str:
    """Under which sender a message is kept: what anybody can say to be from somebody stands apart.

    Otherwise it would keep away what is from them and has the same id.
    """
    return sender if verified else f"?{sender}"


class MessageBook(Protocol):
    """Where the records are; `fog_compute.p2p.store_book` has one on the store's tables."""

    async def load(self, now: float) -> BookState:
        """Everything that is not over."""
        ...

    async def commit(self, changes: Sequence[BookChange]) -> None:
        """Write all of them, or none; written again, nothing changes.

        Raises:
            StoreError: they are not written.
        """
        ...

    async def message(self, sender: str, id: str) -> DecentralizedMessage | None:  # noqa: A002
        """A message with its body; None where there is none any more."""
        ...

    async def log(self, after: int, limit: int, room: str | None = None) -> list[LogEntry]:
        """The messages whose position is above ``after``, in order, at most ``limit``."""
        ...
