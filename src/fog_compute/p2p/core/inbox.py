"""What comes from others: shown once, a stream in its order, and each stranger within bounds.

`Inbox.take` says what is to be written down of an arrival; nothing else follows from one before
that is done. Opaque ids are remembered until their message's time is over, streams as long as a
message of them can come (`ordering`).
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fog_compute.p2p.core.book import (
    BookChange,
    BookState,
    InStreamRecord,
    Kept,
    Released,
    origin,
)
from fog_compute.p2p.core.messages import MAX_LIFE_MS, MessageId
from fog_compute.p2p.core.ordering import InStream, Place
from fog_compute.p2p.core.seen import SeenIds
from fog_compute.p2p.core.transport import Arrival

__all__ = ["Inbox", "InboxLimits", "Refusal", "Standing", "Taken"]

SKEW_S: Final = 3600.0
"""How far the clocks of two people may be apart."""

SKEW_OF_LIFE: Final = 0.25
"""And which part of a message's life that may be: what is to be gone soon is not shown later."""

LEAST_SKEW_S: Final = 10.0
"""What every clock that a network sets keeps to."""


class Standing(enum.Enum):
    """What somebody is to us."""

    STRANGER = "stranger"
    KNOWN = "known"
    BLOCKED = "blocked"


class Refusal(enum.StrEnum):
    """Why something that came is not taken; each is counted."""

    MALFORMED = "malformed"  # its fields are out of bounds
    OWN = "own"  # it says that we sent it
    BLOCKED = "blocked"  # its sender is
    EXPIRED = "expired"  # its time is over
    REPEATED = "repeated"  # it came before
    STRANGER_FULL = "stranger_full"  # a stranger sent enough for a day
    STREAMS_FULL = "streams_full"  # its sender has too many streams open
    SEEN_FULL = "seen_full"  # its sender has too many opaque ids
    UNVERIFIED = "unverified"  # a receipt, or a message of a group, with no proof of its sender
    NOT_MEMBER = "not_member"  # its sender is not in the group
    ROSTER = "roster"  # it brings no roster that is newer, or one group too many
    UNASKED = "unasked"  # a receipt for nothing that was sent to its sender


@dataclass(frozen=True, slots=True)
class InboxLimits:
    """What others may make this side keep.

    Attributes:
        patience_s: how long a message waits for those before it.
        streams: of one sender, at a time.
        seen: opaque ids of one sender.
        seen_in_all: opaque ids.
        stranger_messages: of one stranger, a day.
        strangers_messages: of all strangers, a day.
    """

    patience_s: float = 300.0
    streams: int = 64
    seen: int = 4_000
    seen_in_all: int = 200_000
    stranger_messages: int = 50
    strangers_messages: int = 500


@dataclass(slots=True)
class Taken:
    """What follows from an arrival.

    Attributes:
        changes: to be written down.
        positions: places in the log that are taken now.
        refusal: why it is not taken; None if it is, now.
        receipt: the sender may know that it is here: also of one that came before.
    """

    changes: list[BookChange] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    refusal: Refusal | None = None
    receipt: bool = False


class Inbox:
    """All that is remembered of what came."""

    def __init__(
        self, limits: InboxLimits, state: BookState, standing: Callable[[str], Standing]
    ) -> None:
        """Take up where ``state`` was written down."""
        self._limits: Final = limits
        self._standing: Final = standing
        self._next_position = state.next_position
        self._seen: Final = SeenIds(limits.seen, limits.seen_in_all)
        for one in state.seen:
            self._seen.add(one.sender, one.id, one.until)
        self._streams: Final[dict[tuple[str, str], InStream]] = {}
        self._open: Final[Counter[str]] = Counter()  # streams of each sender
        self._waiting: Final[set[tuple[str, str]]] = set()  # streams with something held back
        for record in state.in_streams:
            self._stream(record.sender, record.stream, record)
        for held in state.held:
            parsed = MessageId.parse(held.id)
            if parsed is not None:
                stream = self._stream(held.sender, parsed.stream)
                stream.hold(parsed.sequence, held.at)
                self._waiting.add((held.sender, parsed.stream))
        self._day = 0  # that strangers are counted for
        self._from_strangers: Final[Counter[str]] = Counter()

    def place(self) -> int:
        """The next place in the log, which is taken with that."""
        self._next_position += 1
        return self._next_position - 1

    def take(self, arrival: Arrival, now: float) -> Taken:
        """Decide about a message that is no receipt. Its fields were checked."""
        message = arrival.message
        expires = message.expires_ms / 1000
        life = expires - message.created_ms / 1000
        if expires + min(SKEW_S, max(LEAST_SKEW_S, life * SKEW_OF_LIFE)) < now:
            return Taken(refusal=Refusal.EXPIRED)
        until = min(expires, now + MAX_LIFE_MS / 1000) + SKEW_S
        parsed = (
            MessageId.parse(message.id) if message.ordered and arrival.sender_verified else None
        )
        if parsed is None:
            return self._opaque(arrival, now, until)
        return self._in_stream(arrival, parsed, now, until)

    def _opaque(self, arrival: Arrival, now: float, until: float) -> Taken:
        message = arrival.message
        said_by = origin(message.sender, arrival.sender_verified)
        if self._seen.has(said_by, message.id):
            return Taken(refusal=Refusal.REPEATED, receipt=arrival.sender_verified)
        refusal = self._too_much(said_by, now)
        if refusal is None and not self._seen.add(said_by, message.id, until):
            refusal = Refusal.SEEN_FULL
        if refusal is not None:
            return Taken(refusal=refusal)
        kept = self._kept(arrival, now, until, shown=True, late=False)
        return Taken([kept], [kept.position or 0], receipt=arrival.sender_verified)

    def _in_stream(self, arrival: Arrival, parsed: MessageId, now: float, until: float) -> Taken:
        sender = arrival.message.sender
        known = (sender, parsed.stream) in self._streams
        if not known and self._open[sender] >= self._limits.streams:
            return Taken(refusal=Refusal.STREAMS_FULL)
        stream = self._streams[sender, parsed.stream] if known else InStream()
        if stream.has(parsed.sequence):
            return Taken(refusal=Refusal.REPEATED, receipt=True)
        refusal = self._too_much(sender, now)
        if refusal is not None:
            return Taken(refusal=refusal)
        place = stream.arrive(parsed.sequence, now)
        if not known:
            self._streams[sender, parsed.stream] = stream
            self._open[sender] += 1
        stream.until = max(stream.until, until)
        kept = self._kept(
            arrival, now, None, shown=place is not Place.EARLY, late=place is Place.LATE
        )
        taken = Taken([kept], [] if kept.position is None else [kept.position], receipt=True)
        self._release(taken, sender, parsed.stream, stream, now)
        taken.changes.append(_record(sender, parsed.stream, stream))
        return taken

    def give_up(self, now: float) -> Taken:
        """Show what has waited long enough."""
        taken = Taken()
        for sender, name in sorted(self._waiting):
            stream = self._streams[sender, name]
            if stream.gap_since is not None and stream.gap_since + self._limits.patience_s <= now:
                self._release(taken, sender, name, stream, now)
                taken.changes.append(_record(sender, name, stream))
        return taken

    def next_due(self) -> float | None:
        """When something has waited long enough."""
        gaps = (self._streams[key].gap_since for key in self._waiting)
        since = [one for one in gaps if one is not None]
        return min(since) + self._limits.patience_s if since else None

    def sweep(self, now: float) -> None:
        """Forget what cannot come any more; the book does so by itself."""
        self._seen.sweep(now)
        over = [key for key, one in self._streams.items() if one.until < now and not one.waiting]
        for key in over:
            del self._streams[key]
            self._open[key[0]] -= 1

    def _stream(self, sender: str, name: str, record: InStreamRecord | None = None) -> InStream:
        """A stream that was written down, made if it was not."""
        found = self._streams.get((sender, name))
        if found is None:
            found = InStream()
            if record is not None:
                found = InStream(record.next, record.missing, record.until)
            self._streams[sender, name] = found
            self._open[sender] += 1
        return found

    def _release(self, taken: Taken, sender: str, name: str, stream: InStream, now: float) -> None:
        for sequence in stream.release(now, self._limits.patience_s):
            released = Released(sender, str(MessageId(name, sequence)), self.place())
            taken.changes.append(released)
            taken.positions.append(released.position)
        if stream.waiting:
            self._waiting.add((sender, name))
        else:
            self._waiting.discard((sender, name))

    def _kept(
        self, arrival: Arrival, now: float, until: float | None, *, shown: bool, late: bool
    ) -> Kept:
        return Kept(
            arrival.message,
            arrival.sender_verified,
            arrival.transport,
            self.place() if shown else None,
            late,
            now,
            until,
        )

    def _too_much(self, sender: str, now: float) -> Refusal | None:
        """Count what strangers send, but for what is only repeated: do not ask about that."""
        if self._standing(sender) is not Standing.STRANGER:
            return None
        day = int(now // 86_400)
        if day != self._day:
            self._day = day
            self._from_strangers.clear()
        if (
            self._from_strangers[sender] >= self._limits.stranger_messages
            or self._from_strangers.total() >= self._limits.strangers_messages
        ):
            return Refusal.STRANGER_FULL
        self._from_strangers[sender] += 1
        return None


def _record(sender: str, name: str, stream: InStream) -> InStreamRecord:
    return InStreamRecord(sender, name, stream.next, tuple(stream.missing), stream.until)
