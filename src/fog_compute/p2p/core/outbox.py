"""The outbox: what is to be sent, to whom, what is under way, and when to look at it again.

A *lane* is one recipient's part of one stream after another. It has a bounded number of messages
under way, so that throughput does not cost order; lanes take turns, those of a higher priority
first. Times are seconds; what is due is found by the earliest of them.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fog_compute.errors import FogError
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.transport import TransportType
from fog_compute.units import GIB, format_bytes

__all__ = ["Entry", "Key", "Outbox", "OutboxFull", "OutboxLimits"]

INFINITE: Final = float("inf")


class OutboxFull(FogError):
    """No more messages are kept for now; the text says what to do."""


class Key(NamedTuple):
    """Names one delivery: a message, and one of its recipients."""

    id: str
    receiver: str


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What may wait.

    Attributes:
        per_peer: messages for one recipient.
        in_all: messages.
        bytes_in_all: their bodies; one that goes to several counts for each.
        window: messages of one lane that are under way: no receipt yet, and not stored.
        stored: messages of one lane that are stored and for which no receipt came; less than a
            receiver holds back.
    """

    per_peer: int = 2_000
    in_all: int = 20_000
    bytes_in_all: int = GIB
    window: int = 32
    stored: int = 2_048


@dataclass(slots=True)
class Entry:
    """One delivery that is not over.

    Attributes:
        message: without its body.
        size: bytes of the body.
        receiver: a fingerprint, or `EVERYBODY`.
        order: its place among all of the outbox.
        state: where it stands.
        transport: which one has it; the last one that had, while it waits.
        offer: the number of the last one, so that late answers are told apart.
        attempts: how often a transport took it.
        failures: in a row.
        reason: of the last of these, one line.
        refused: transports that will never take it.
        not_before: when it may be offered again, after a failure.
        due: when to look at it again; see `Outbox.due`.
        expires: when its time is over.
    """

    message: DecentralizedMessage
    size: int
    receiver: str
    order: int
    state: DeliveryState = DeliveryState.QUEUED
    transport: TransportType | None = None
    offer: int = 0
    attempts: int = 0
    failures: int = 0
    reason: str = ""
    refused: frozenset[TransportType] = frozenset()
    not_before: float = 0.0
    due: float = INFINITE

    @property
    def key(self) -> Key:
        """Its name."""
        return Key(self.message.id, self.receiver)

    @property
    def expires(self) -> float:
        """When its time is over, in seconds since 1970."""
        return self.message.expires_ms / 1000

    @property
    def under_way(self) -> bool:
        """Whether a transport has it, without having stored it."""
        return self.state in {DeliveryState.SENDING, DeliveryState.ACCEPTED}


class _LaneName(NamedTuple):
    receiver: str
    room: str
    lane: str

    @classmethod
    def of(cls, entry: Entry) -> _LaneName:
        return cls(entry.receiver, entry.message.room, entry.message.lane)


@dataclass(slots=True)
class _Lane:
    queue: list[tuple[int, Key]] = field(default_factory=list)  # a heap, by order
    under_way: int = 0
    stored: int = 0


class Outbox:
    """All deliveries that are not over. It decides nothing about transports."""

    def __init__(self, limits: OutboxLimits) -> None:
        """Begin empty."""
        self._limits: Final = limits
        self._entries: Final[dict[Key, Entry]] = {}
        self._lanes: Final[OrderedDict[_LaneName, _Lane]] = OrderedDict()
        self._due: Final[list[tuple[float, int, Key]]] = []
        self._by_peer: Final[dict[str, dict[Key, Entry]]] = {}
        self._bytes = 0
        self._order = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes of all bodies, counted for each recipient."""
        return self._bytes

    def get(self, key: Key) -> Entry | None:
        """A delivery; None if it is over, or never was."""
        return self._entries.get(key)

    def of_peer(self, receiver: str) -> list[Entry]:
        """All deliveries to one recipient."""
        return list(self._by_peer.get(receiver, {}).values())

    def of_conversation(self, to: str | None, room: str) -> list[Entry]:
        """All deliveries of what was written to one person, or to a room; both empty: to all."""
        return [
            entry
            for entry in self._entries.values()
            if entry.message.receiver_id == to and entry.message.room == room
        ]

    def of_messages(self, ids: Collection[str]) -> list[Entry]:
        """All deliveries of some messages."""
        return [entry for entry in self._entries.values() if entry.message.id in ids]

    def count_by_state(self) -> Counter[DeliveryState]:
        """How many deliveries are in each state."""
        return Counter(entry.state for entry in self._entries.values())

    def queued(self) -> list[Entry]:
        """All deliveries that wait."""
        return [one for one in self._entries.values() if one.state is DeliveryState.QUEUED]

    def over(self, transport: TransportType) -> list[Entry]:
        """All deliveries that are under way over a transport."""
        return [
            entry
            for entry in self._entries.values()
            if entry.transport is transport and entry.under_way
        ]

    def check(self, receivers: tuple[str, ...], size: int) -> None:
        """Refuse a message that does not fit.

        Raises:
            OutboxFull: it does not.
        """
        limits = self._limits
        if len(self) + len(receivers) > limits.in_all:
            raise OutboxFull(
                f"the outbox is full: {len(self)} messages wait, and {limits.in_all} may;"
                " wait until some arrive, or give some up with `fog chat cancel`"
            )
        if self._bytes + size * len(receivers) > limits.bytes_in_all:
            raise OutboxFull(
                f"the outbox is full: {format_bytes(self._bytes)} wait, and"
                f" {format_bytes(limits.bytes_in_all)} may; wait until some arrive, or give some up"
                " with `fog chat cancel`"
            )
        if any(len(self._by_peer.get(one, ())) >= limits.per_peer for one in receivers):
            raise OutboxFull(
                f"the outbox has {limits.per_peer} messages for one recipient already, and no more"
                " may wait; wait until some arrive, or give some up with `fog chat cancel`"
            )

    def add(self, entry: Entry) -> None:
        """Take a delivery in; `check` was asked before, unless it is taken up again."""
        self._order += 1
        entry.order = self._order
        self._entries[entry.key] = entry
        self._by_peer.setdefault(entry.receiver, {})[entry.key] = entry
        self._bytes += entry.size
        self._count(entry, 1)
        self.due(entry, entry.due)

    def remove(self, entry: Entry) -> None:
        """Forget a delivery."""
        if self._entries.pop(entry.key, None) is None:
            return
        lane = self._count(entry, -1)
        if not (lane.queue or lane.under_way or lane.stored):
            del self._lanes[_LaneName.of(entry)]
        self._bytes -= entry.size
        of_peer = self._by_peer[entry.receiver]
        del of_peer[entry.key]
        if not of_peer:
            del self._by_peer[entry.receiver]

    def move(self, entry: Entry, state: DeliveryState) -> None:
        """Note a delivery's next state."""
        self._count(entry, -1)
        entry.state = state
        self._count(entry, 1)

    def due(self, entry: Entry, at: float) -> None:
        """Have a delivery looked at, at a time or when it expires, whichever is first."""
        entry.due = min(at, entry.expires)
        heapq.heappush(self._due, (entry.due, entry.order, entry.key))

    def next_due(self) -> float | None:
        """When the next delivery is to be looked at."""
        while self._due:
            at, _, key = self._due[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == at:
                return at
            heapq.heappop(self._due)
        return None

    def take_due(self, now: float) -> list[Entry]:
        """The deliveries whose time has come; each is told once."""
        found: list[Entry] = []
        while (at := self.next_due()) is not None and at <= now:
            entry = self._entries[heapq.heappop(self._due)[2]]
            entry.due = INFINITE
            found.append(entry)
        return found

    def ready(self, now: float) -> Iterator[Entry]:
        """Deliveries that may be offered now: the next of each lane, lanes in turn.

        Those of a higher priority come first. Whoever iterates moves what was offered, or puts off
        what no transport takes (`due`): a lane stops at the first that was not moved.
        """
        for name in sorted(self._lanes, key=lambda name: name.lane, reverse=True):
            lane = self._lanes.get(name)
            if lane is None:
                continue
            before = lane.under_way
            yield from self._ready_of(name, lane, now)
            if lane.under_way != before:
                self._lanes.move_to_end(name)

    def _ready_of(self, name: _LaneName, lane: _Lane, now: float) -> Iterator[Entry]:
        limits = self._limits
        later: list[tuple[int, Key]] = []
        while lane.queue and lane.under_way < limits.window and lane.stored < limits.stored:
            item = heapq.heappop(lane.queue)
            entry = self._entries.get(item[1])
            if entry is None or entry.order != item[0] or entry.state is not DeliveryState.QUEUED:
                continue
            if entry.failures and now < entry.not_before and now < entry.expires:
                later.append(item)  # it failed a moment ago; those after it need not wait
                if len(later) + lane.under_way >= limits.window:
                    break
                continue
            yield entry
            if entry.state is DeliveryState.QUEUED:
                later.append(item)
                break
        if later:
            # A lane that looked empty meanwhile, as its last other delivery ended, was forgotten.
            lane = self._lanes.setdefault(name, lane)
        for item in later:
            heapq.heappush(lane.queue, item)

    def _count(self, entry: Entry, by: int) -> _Lane:
        name = _LaneName.of(entry)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        if entry.under_way:
            lane.under_way += by
        elif entry.state is DeliveryState.STORED:
            lane.stored += by
        elif by > 0 and entry.state is DeliveryState.QUEUED:
            heapq.heappush(lane.queue, (entry.order, entry.key))
        return lane
