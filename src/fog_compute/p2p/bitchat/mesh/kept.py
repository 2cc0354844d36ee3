"""What was said to all, and is kept for those who missed it: bounded in packets and in bytes.

Of each kind there is so much room. Where there is more, the oldest goes of what the link brought
that brought most: packets where those are too many, bytes where those are. Nobody signs for what is
said to a group, so whoever floods it pays with his own and crowds out nobody else's.

Of announces and prekeys the newest of each peer is kept.

Source: ``GossipSyncManager.swift`` of the app.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.wire.fragments import SET_ID_BYTES
from fog_compute.p2p.bitchat.wire.gcs import hashed
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.sync import packet_id

__all__ = ["KEPT", "SAID", "Kept", "KeptPolicy", "Store", "in_turn"]

SAID: Final = frozenset({Kind.MESSAGE, Kind.GROUP_MESSAGE})
"""What people say; it is kept for long."""

KEPT: Final = SAID | {Kind.ANNOUNCE, Kind.FRAGMENT, Kind.PREKEY_BUNDLE}

ONE_EACH: Final = frozenset({Kind.ANNOUNCE, Kind.PREKEY_BUNDLE})
"""Kinds of which the newest of each peer counts."""


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        packets: that are kept, of each kind;
        size: and bytes of them as they came.
        bundles: prekeys that are kept, of so many people.
        said_s: for how long what is said to all is kept;
        bundles_s: and prekeys;
        other_s: and everything else.
    """

    packets: int = 1_000
    size: int = 2 << 20
    bundles: int = 200
    said_s: float = 6 * 3600.0
    bundles_s: float = 24 * 3600.0
    other_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A packet without its payload, and how it is found.

    Attributes:
        packet: as it came.
        id: what a set of what somebody has names it by.
        hash: of that id.
        set_id: of a fragment, the id of its set.
        source: the link that brought it; ``None`` if it is this node's own.
        at: when it came.
    """

    packet: Packet
    id: bytes
    hash: int
    set_id: bytes
    source: Link | None
    at: float

    @property
    def size(self) -> int:
        """Bytes of the packet."""
        return len(self.packet.wire)


class _Shelf:
    """The packets of one kind, the oldest first, and how much of them each link brought."""

    __slots__ = ("bytes", "items", "packets")

    def __init__(self) -> None:
        self.items: OrderedDict[bytes, Kept] = OrderedDict()
        self.packets: Counter[Link | None] = Counter()
        self.bytes: Counter[Link | None] = Counter()

    def put(self, key: bytes, one: Kept) -> None:
        self.pop(key)
        self.items[key] = one
        self.packets[one.source] += 1
        self.bytes[one.source] += one.size

    def pop(self, key: bytes) -> Kept | None:
        one = self.items.pop(key, None)
        if one is not None:
            self.packets[one.source] -= 1
            self.bytes[one.source] -= one.size
            if not self.packets[one.source]:
                del self.packets[one.source], self.bytes[one.source]
        return one

    def trim(self, packets: int, size: int) -> None:
        while len(self.items) > packets:
            self._shed(self.packets)
        while self.bytes.total() > size and len(self.items) > 1:
            self._shed(self.bytes)

    def _shed(self, shares: Counter[Link | None]) -> None:
        ((most, _),) = shares.most_common(1)
        self.pop(next(key for key, one in self.items.items() if one.source == most))


class Store:
    """What was said to all, by kind."""

    __slots__ = ("_away", "_policy", "_shelves")

    def __init__(self, policy: KeptPolicy) -> None:
        self._policy: Final = policy
        self._shelves: dict[int, _Shelf] = {}
        self._away: OrderedDict[bytes, Kept] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(shelf.items) for shelf in self._shelves.values())

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return sum(shelf.bytes.total() for shelf in self._shelves.values())

    def keep(self, packet: Packet, now: float, source: Link | None) -> Kept:
        """Keep a packet that is for all and was found good."""
        name = packet_id(packet)
        set_id = packet.payload[:SET_ID_BYTES] if packet.kind == Kind.FRAGMENT else b""
        one = Kept(packet.bare, name, hashed(name), set_id, source, now)
        if packet.kind == Kind.ANNOUNCE and self.stale(packet, now):
            self._note_away(one, now)
            return one
        shelf = self._shelves.setdefault(packet.kind, _Shelf())
        key = packet.sender if packet.kind in ONE_EACH else one.id
        former = shelf.items.get(key)
        if former is not None and former.packet.timestamp > packet.timestamp:
            return former
        shelf.put(key, one)
        while shelf.items and self.stale((first := next(iter(shelf.items.items())))[1].packet, now):
            shelf.pop(first[0])
        policy = self._policy
        bundles = packet.kind == Kind.PREKEY_BUNDLE
        shelf.trim(policy.bundles if bundles else policy.packets, policy.size)
        return one

    def go_away(self, peer_id: bytes, now: float) -> bool:
        """Keep a peer's announce apart, for those who get what the peer said; True if there is."""
        shelf = self._shelves.get(Kind.ANNOUNCE)
        one = None if shelf is None else shelf.pop(peer_id)
        if one is not None:
            self._note_away(one, now)
        return one is not None

    @property
    def away(self) -> Iterable[Kept]:
        """The announces of those who are near no more."""
        return self._away.values()

    def fresh(self, kinds: Iterable[int], now: float, since_ms: int = 0) -> Iterator[Kept]:
        """What of these kinds was made from a time on, and is not too old."""
        for kind in kinds:
            shelf = self._shelves.get(kind)
            if shelf is not None:
                since = max(since_ms, int((now - self._longest(kind)) * 1000))
                yield from (one for one in shelf.items.values() if one.packet.timestamp >= since)

    def stale(self, packet: Packet, now: float) -> bool:
        """Whether a packet is too old to be kept."""
        return now - packet.timestamp / 1000 > self._longest(packet.kind)

    def _longest(self, kind: int) -> float:
        if kind == Kind.PREKEY_BUNDLE:
            return self._policy.bundles_s
        return self._policy.said_s if kind in SAID else self._policy.other_s

    def _note_away(self, one: Kept, now: float) -> None:
        self._away[one.packet.sender] = one
        self._away.move_to_end(one.packet.sender)
        while self._away and (
            len(self._away) > self._policy.packets
            or now - next(iter(self._away.values())).packet.timestamp / 1000 > self._policy.said_s
        ):
            self._away.popitem(last=False)


def in_turn(found: list[Kept], away: Mapping[bytes, Kept], most: int) -> list[Packet]:
    """Which are given, if not all fit: in turn of each kind and of each link that brought some.

    Of those the newest, because their flood may just have been lost; and with what somebody said
    the announce that shows that it was he.
    """
    announces = {
        **away,
        **{one.packet.sender: one for one in found if one.packet.kind == Kind.ANNOUNCE},
    }
    heaps: OrderedDict[tuple[int, Link | None], list[Kept]] = OrderedDict()
    for one in sorted(found, key=lambda one: one.packet.timestamp):
        heaps.setdefault((one.packet.kind, one.source), []).append(one)
    given: dict[bytes, Packet] = {}
    while heaps and len(given) < most:
        for turn, heap in list(heaps.items()):
            one = heap.pop()
            if not heap:
                del heaps[turn]
            said = announces.get(one.packet.sender) if one.packet.kind != Kind.ANNOUNCE else None
            for each in (said, one):
                if each is not None and len(given) < most:
                    given[each.id] = each.packet
    return list(given.values())
