"""A book of messages in memory, and transports in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

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
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    Arrival,
    CapabilitiesChanged,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
    TransportCapabilities,
    TransportEvent,
    TransportType,
)

__all__ = ["MemoryAir", "MemoryBook", "MemoryTransport"]


class MemoryBook:
    """A `fog_compute.p2p.core.book.MessageBook` that survives its router, and not the process."""

    def __init__(self) -> None:
        """Begin empty."""
        self.mine: Final[dict[str, tuple[int, DecentralizedMessage, float]]] = {}
        self.deliveries: Final[dict[tuple[str, str], Delivery]] = {}
        self.theirs: Final[dict[tuple[str, str], tuple[Kept, int | None]]] = {}
        self.out_streams: Final[dict[tuple[str, str, str], OutStream]] = {}
        self.in_streams: Final[dict[tuple[str, str], InStreamRecord]] = {}
        self.rosters: Final[dict[str, bytes]] = {}
        self.receipts: Final[dict[ReceiptOwed, None]] = {}
        self._positions: Final[dict[int, tuple[str, str]]] = {}

    async def load(self, now: float) -> BookState:
        """Everything that is not over."""
        return self.state(now)

    def state(self, now: float) -> BookState:
        """Everything that is not over, at once."""
        kept = [kept for kept, _ in self.theirs.values()]
        return BookState(
            next_position=max(self._positions, default=0) + 1,
            deliveries=tuple(
                one
                for one in self.deliveries.values()
                if not one.state.final
                and (one.receiver != EVERYBODY or one.state is DeliveryState.QUEUED)
            ),
            out_streams=tuple(self.out_streams.values()),
            in_streams=tuple(self.in_streams.values()),
            held=tuple(
                HeldId(kept.message.sender, kept.message.id, kept.at)
                for kept, position in self.theirs.values()
                if position is None
            ),
            seen=tuple(
                SeenId(origin(one.message.sender, one.verified), one.message.id, one.until)
                for one in kept
                if one.until is not None and one.until >= now
            ),
            receipts=tuple(self.receipts),
            rosters=tuple(self.rosters.items()),
        )

    async def commit(self, changes: Sequence[BookChange]) -> None:
        """Write all of them."""
        self.apply(changes)

    def apply(self, changes: Sequence[BookChange]) -> None:
        """Write all of them, at once."""
        for change in changes:
            self._apply(change)

    def _apply(self, change: BookChange) -> None:
        match change:
            case Begun():
                self._begin(change)
            case Settled():
                self._settle(change)
            case OutStream():
                self._put(change)
            case Kept():
                self._keep(change)
            case Released():
                self._place((change.sender, change.id), change.position)
            case InStreamRecord():
                self.in_streams[change.sender, change.stream] = change
            case ReceiptOwed():
                self.receipts[change] = None
            case RosterKept():
                self.rosters[change.group] = change.roster
            case ReceiptSent():
                for owed in [one for one in self.receipts if _says(change, one)]:
                    del self.receipts[owed]

    def _keep(self, change: Kept) -> None:
        message = change.message
        key = (origin(message.sender, change.verified), message.id)
        if key not in self.theirs:
            self.theirs[key] = (change, None)
            if change.position is not None:
                self._place(key, change.position)

    def _begin(self, change: Begun) -> None:
        message = change.message
        if message.id in self.mine:
            return
        self.mine[message.id] = (change.position, message, message.created_ms / 1000)
        self._positions[change.position] = ("", message.id)
        bare = msgspec.structs.replace(message, body=b"")
        for receiver in change.receivers:
            self.deliveries[message.id, receiver] = Delivery(
                bare, len(message.body), receiver, DeliveryState.QUEUED
            )
        if change.stream is not None:
            self._put(change.stream)

    def _put(self, stream: OutStream) -> None:
        self.out_streams[stream.receiver, stream.room, stream.lane] = stream

    def _settle(self, change: Settled) -> None:
        before = self.deliveries.get((change.id, change.receiver))
        if before is not None and may_follow(before.state, change.state):
            self.deliveries[change.id, change.receiver] = Delivery(
                before.message,
                before.size,
                before.receiver,
                change.state,
                change.transport,
                max(before.attempts, change.attempts),
                change.reason,
            )

    def _place(self, key: tuple[str, str], position: int) -> None:
        kept, before = self.theirs[key]
        if position in self._positions or before is not None:
            raise AssertionError(f"place {position} of the log is given twice, or to {key} again")
        self.theirs[key] = (kept, position)
        self._positions[position] = key

    async def message(self, sender: str, id: str) -> DecentralizedMessage | None:  # noqa: A002
        """A message with its body."""
        return self.find(sender, id)

    def find(self, sender: str, id: str) -> DecentralizedMessage | None:  # noqa: A002
        """A message with its body, at once."""
        if id in self.mine and self.mine[id][1].sender == sender:
            return self.mine[id][1]
        kept = self.theirs.get((sender, id))
        return None if kept is None else kept[0].message

    async def log(self, after: int, limit: int, room: str | None = None) -> list[LogEntry]:
        """The messages whose position is above ``after``, in order."""
        return [
            one
            for one in self.entries()
            if one.position > after and room in {None, one.message.room}
        ][:limit]

    def entries(self) -> list[LogEntry]:
        """The whole log."""
        return [self._entry(position, key) for position, key in sorted(self._positions.items())]

    def _entry(self, position: int, key: tuple[str, str]) -> LogEntry:
        if not key[0]:
            _, message, at = self.mine[key[1]]
            states = {
                receiver: one.state
                for (id_, receiver), one in self.deliveries.items()
                if id_ == message.id
            }
            return LogEntry(position, message, True, True, False, at, states)
        kept, _ = self.theirs[key]
        return LogEntry(position, kept.message, False, kept.verified, kept.late, kept.at)


class MemoryAir:
    """What lies between the `MemoryTransport`s of one kind: who is there, and what waits."""

    def __init__(self, kind: TransportType, *, stores: bool) -> None:
        """Begin with nobody. What ``stores`` keeps messages for who is away, as the mixnet does."""
        self.kind: Final = kind
        self.stores: Final = stores
        self.there: Final[dict[str, MemoryTransport]] = {}
        self.waiting: Final[dict[str, dict[str, DecentralizedMessage]]] = {}
        self.up = True
        self._known: Final[set[tuple[str, str]]] = set()

    def set_up(self, up: bool) -> None:
        """Let everything go, or nothing."""
        self.up = up
        for one in self.there.values():
            one.tell(CapabilitiesChanged(self.kind))
            if up:
                one.fetch()

    def carry(self, message: DecentralizedMessage, to: str, wire: str) -> Outcome:
        """Carry a message, or keep it."""
        if not self.up or (not self.stores and to not in self.there):
            return Outcome(message.id, to, OutcomeState.FAILED, "nobody is there")
        if (to, wire) not in self._known or not self.stores:
            self._known.add((to, wire))
            self.waiting.setdefault(to, {})[wire] = message
            if to in self.there:
                self.there[to].fetch()
        state = OutcomeState.STORED if self.stores else OutcomeState.ACCEPTED
        return Outcome(message.id, to, state)


class MemoryTransport:
    """A `fog_compute.p2p.core.transport.TransportInterface` of one person, on a `MemoryAir`."""

    def __init__(self, air: MemoryAir, own: str, knows: Sequence[str]) -> None:
        """Be ``own``, and reach those whom it ``knows``."""
        self._air: Final = air
        self._own: Final = own
        self._knows: Final = tuple(knows)
        self._events: asyncio.Queue[TransportEvent] = asyncio.Queue()
        self._told: Final[set[str]] = set()

    @property
    def type(self) -> TransportType:
        """Which transport it is."""
        return self._air.kind

    async def initialize(self) -> None:
        """Be there."""
        self._events = asyncio.Queue()
        self._told.clear()
        self._air.there[self._own] = self
        for peer in self._knows:
            reach = Reach.ADDRESS if self._air.stores else Reach.DIRECT
            self.tell(Reachability(self.type, peer, reach))
        self.fetch()

    async def send(
        self, message: DecentralizedMessage, destination: str, *, attempt: int = 0
    ) -> Outcome:
        """Send to one person."""
        return self._air.carry(message, destination, f"{message.id}.{attempt}")

    async def broadcast(self, message: DecentralizedMessage) -> int:
        """Send to all who are there."""
        others = [one for one in self._air.there if one != self._own]
        for one in others:
            self._air.carry(message, one, message.id)
        return len(others)

    async def receive(self) -> TransportEvent:
        """Wait for what comes next."""
        return await self._events.get()

    async def confirm(self, arrival: Arrival) -> None:
        """It need not be kept any longer."""
        self._air.waiting.get(self._own, {}).pop(arrival.token, None)

    async def shutdown(self) -> None:
        """Be away."""
        if self._air.there.get(self._own) is self:
            del self._air.there[self._own]

    def get_capabilities(self) -> TransportCapabilities:
        """What it can do now."""
        stores = self._air.stores
        return TransportCapabilities(
            supports_offline=not stores,
            max_message_size=2**20,
            supports_broadcast=not stores,
            requires_pairing=False,
            latency_class="low",
            lossy=not stores,
            metadata_private=stores,
            unavailable_because=None if self._air.up else "it was told to be away",
        )

    def tell(self, event: TransportEvent) -> None:
        """Have `receive` tell it."""
        self._events.put_nowait(event)

    def fetch(self) -> None:
        """Take what waits, each message once in a run."""
        for wire, message in self._air.waiting.get(self._own, {}).items():
            if self._air.up and wire not in self._told:
                self._told.add(wire)
                self.tell(Arrival(self.type, message, True, wire))


def _says(sent: ReceiptSent, owed: ReceiptOwed) -> bool:
    return (sent.sender, sent.state) == (owed.sender, owed.state) and owed.id in sent.ids
