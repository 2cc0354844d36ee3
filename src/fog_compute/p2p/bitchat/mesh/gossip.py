"""Gossip sync: neighbours are asked for what they have and this node missed.

A flood is quick and loses what a link loses in silence. So each node keeps what was said to all,
and asks its neighbours in turn, with a set of what it has; they send the rest. It asks soon where
somebody new is or where something was said just now, and rarely where all is quiet.

What is given is bounded for each neighbour, and an answer to nothing that was asked is refused.

Source: ``GossipSyncManager.swift``, ``RequestSyncManager.swift``, ``SyncResponseRateLimiter.swift``
of the app.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.wire.fragments import SET_ID_BYTES
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import FLAGS_AT, SYNC_ANSWER, TTL_AT, Packet
from fog_compute.p2p.bitchat.wire.sync import PACKET_ID_BYTES, SyncRequest, packet_id

__all__ = ["Gossip", "GossipPolicy", "as_flooded"]

EVERYTHING_SAID: Final = frozenset({Kind.ANNOUNCE, Kind.MESSAGE, Kind.GROUP_MESSAGE})
"""What a round is about. Fragments are asked for by name, where some are missing."""

MOST_PUT_OFF: Final = 128
"""Messages that nobody here can check, of which neighbours are told that they are had."""

MORE_MEMBERS: Final = 8
"""So many members of a set, and fewer, are no packets: a byte each."""


@dataclass(frozen=True, slots=True)
class GossipPolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        keep: packets that are kept, of each kind; of announces, one for each peer and so many. Of
            more, the oldest goes of those that the link brought that brought most of them.
        keep_s: for how long what is said to all is kept;
        other_s: and everything else.
        first_s: from a new link to the first question.
        busy_s: between questions while something is said.
        idle_s: between questions otherwise.
        asked_s: for how long an answer may come.
        answers: questions of a neighbour that are answered
        window_s: within so many seconds.
        packets: that one answer has at most.
    """

    keep: int = 1_000
    keep_s: float = 6 * 3600.0
    other_s: float = 900.0
    first_s: float = 0.5
    busy_s: float = 4.0
    idle_s: float = 15.0
    asked_s: float = 30.0
    answers: int = 10
    window_s: float = 30.0
    packets: int = 64


@dataclass(frozen=True, slots=True)
class _Kept:
    """A packet without its payload, its id, of a fragment that of its set, and who brought it."""

    packet: Packet
    id: bytes
    set_id: bytes
    source: Link | None


@dataclass(slots=True)
class _Neighbour:
    """What is known of one link."""

    next_at: float
    asked_at: float | None = None
    answered: deque[float] = field(default_factory=deque)


def as_flooded(packet: Packet, ttl: int) -> Packet:
    """An answer as the packet that it was, to be passed on with so many hops."""
    wire = packet.wire
    flags = wire[FLAGS_AT] & ~SYNC_ANSWER
    wire = b"%b%c%b%c%b" % (
        wire[:TTL_AT],
        ttl,
        wire[TTL_AT + 1 : FLAGS_AT],
        flags,
        wire[FLAGS_AT + 1 :],
    )
    return msgspec.structs.replace(packet, ttl=ttl, sync_answer=False, wire=wire)


class Gossip:
    """What was said to all, and whom to ask for more.

    Attributes:
        refused: questions that were not answered, because a neighbour asks too often.
    """

    __slots__ = (
        "_asked",
        "_away",
        "_kept",
        "_neighbours",
        "_policy",
        "_put_off",
        "_rng",
        "_said_at",
        "refused",
    )

    def __init__(self, policy: GossipPolicy, rng: Random) -> None:
        self._policy: Final = policy
        self._rng: Final = rng
        self._kept: dict[int, OrderedDict[bytes, _Kept]] = {}
        self._away: OrderedDict[bytes, _Kept] = OrderedDict()
        self._put_off: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._asked: dict[int, tuple[float, SyncRequest]] = {}
        self._neighbours: dict[Link, _Neighbour] = {}
        self._said_at = float("-inf")
        self.refused = 0

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._kept.values())

    def up(self, link: Link, now: float) -> None:
        """A neighbour that will be asked soon."""
        self._neighbours[link] = _Neighbour(now + self._policy.first_s * self._rng.uniform(0.6, 1))

    def down(self, link: Link) -> None:
        """A neighbour that is gone."""
        self._neighbours.pop(link, None)

    def keep(self, packet: Packet, now: float, source: Link | None = None) -> None:
        """Keep a packet that is for all and was found good.

        Args:
            packet: what to keep.
            now: seconds.
            source: the link that brought it; ``None`` if it is this node's own.
        """
        if packet.kind not in (*EVERYTHING_SAID, Kind.FRAGMENT):
            return
        kept = self._kept.setdefault(packet.kind, OrderedDict())
        # Of announces the newest of each peer counts.
        one = _Kept(packet.bare, packet_id(packet), packet.payload[:SET_ID_BYTES], source)
        if packet.kind == Kind.ANNOUNCE and self._stale(packet, now):
            self._note_away(one, now)
            return
        key = packet.sender if packet.kind == Kind.ANNOUNCE else one.id
        kept[key] = one
        kept.move_to_end(key)
        while kept and self._stale(next(iter(kept.values())).packet, now):
            kept.popitem(last=False)
        if len(kept) > self._policy.keep:
            ((most, _),) = Counter(one.source for one in kept.values()).most_common(1)
            del kept[next(key for key, one in kept.items() if one.source == most)]
        self._asked.clear()
        if packet.kind != Kind.ANNOUNCE:
            self._said(now)

    def away(self, peer_id: bytes, now: float) -> None:
        """Give a peer's announce only to who gets what the peer said: it is near no more."""
        one = self._kept.get(Kind.ANNOUNCE, OrderedDict()).pop(peer_id, None)
        if one is not None:
            self._note_away(one, now)

    def put_off(self, packet: Packet, now: float) -> None:
        """Ask no more for a message that nobody here can check: its sender was not announced."""
        self._put_off[packet_id(packet)] = (packet.sender, now)
        while len(self._put_off) > MOST_PUT_OFF:
            self._put_off.popitem(last=False)
        self._asked.clear()

    def announced(self, peer_id: bytes) -> None:
        """Ask again for what this peer said."""
        for one in [one for one, (sender, _) in self._put_off.items() if sender == peer_id]:
            del self._put_off[one]

    def hurry(self, link: Link, now: float) -> None:
        """Ask a neighbour soon: it seems to have something that is missing here."""
        neighbour = self._neighbours.get(link)
        if neighbour is not None:
            gap = self._policy.first_s
            earliest = now if neighbour.asked_at is None else neighbour.asked_at + 2 * gap
            neighbour.next_at = min(neighbour.next_at, max(now + gap / 5, earliest))

    def due(self, now: float) -> list[Link]:
        """Neighbours that are to be asked now; they count as asked."""
        links = []
        for link, neighbour in self._neighbours.items():
            if neighbour.next_at <= now:
                busy = now - self._said_at < self._policy.idle_s
                pause = self._policy.busy_s if busy else self._policy.idle_s
                neighbour.asked_at = now
                neighbour.next_at = now + pause * self._rng.uniform(0.8, 1.0)
                links.append(link)
        return links

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has somebody."""
        return min((one.next_at for one in self._neighbours.values()), default=None)

    def missing(self, sets: Iterable[bytes]) -> SyncRequest:
        """A question for the fragments of some sets."""
        mine = self._kept.get(Kind.FRAGMENT, OrderedDict())
        wanted = frozenset(sets)
        has, _ = build([one.id for one in mine.values() if one.set_id in wanted])
        return SyncRequest(has, frozenset({Kind.FRAGMENT}), None, wanted)

    def question(self, now: float) -> SyncRequest:
        """What this node has of what is said to all, the newest first.

        A set takes some packet for a member that is none, and the same set always the same one: as
        long as nothing else is said, that packet would be missing for good. So sets differ by some
        members that are no packets, and therefore in what they take for what.
        """
        more = self._rng.randrange(MORE_MEMBERS)
        former = self._asked.get(more)
        if former is not None and now - former[0] <= self._policy.idle_s:
            return former[1]
        mine = [*self._fresh(EVERYTHING_SAID, now), *self._away.values()]
        mine.sort(key=lambda one: -one.packet.timestamp)
        while self._put_off and now - next(iter(self._put_off.values()))[1] > self._policy.other_s:
            self._put_off.popitem(last=False)
        fill = [self._rng.randbytes(PACKET_ID_BYTES) for _ in range(more)]
        has, count = build([*fill, *(one.id for one in mine), *self._put_off])
        count = min(count - more, len(mine))
        # What did not fit is older than this, and is not asked for.
        since = mine[count - 1].packet.timestamp if 0 < count < len(mine) else None
        request = SyncRequest(has, EVERYTHING_SAID, since)
        self._asked[more] = (now, request)
        return request

    def note_asked(self, link: Link, now: float) -> None:
        """A neighbour was asked for something particular."""
        neighbour = self._neighbours.get(link)
        if neighbour is not None:
            neighbour.asked_at = now

    def asked(self, link: Link, now: float) -> bool:
        """Whether a neighbour owes an answer."""
        neighbour = self._neighbours.get(link)
        return (
            neighbour is not None
            and neighbour.asked_at is not None
            and now - neighbour.asked_at <= self._policy.asked_s
        )

    def answer(self, link: Link, request: SyncRequest, now: float) -> list[Packet]:
        """What a neighbour lacks, the oldest first; nothing if it asks too often."""
        neighbour = self._neighbours.get(link)
        if neighbour is None:
            return []
        times = neighbour.answered
        while times and now - times[0] > self._policy.window_s:
            times.popleft()
        if len(times) >= self._policy.answers:
            self.refused += 1
            return []
        times.append(now)
        kinds = request.kinds or frozenset({Kind.ANNOUNCE, Kind.MESSAGE})
        members = request.has.members()
        since = request.since_ms or 0
        found = [
            one
            for one in self._fresh(kinds, now)
            if one.packet.timestamp >= since
            and (
                one.packet.kind != Kind.FRAGMENT
                or request.fragments is None
                or one.set_id in request.fragments
            )
            and one.id not in members
        ]
        senders = {one.packet.sender: one for one in self._away.values() if one.id not in members}
        given = _in_turn(found, senders, self._policy.packets)
        # Announces first: what their peers said cannot be checked before.
        given.sort(key=lambda one: (one.kind != Kind.ANNOUNCE, -one.timestamp))
        return [one.as_sync_answer() for one in given]

    def _note_away(self, one: _Kept, now: float) -> None:
        self._away[one.packet.sender] = one
        self._away.move_to_end(one.packet.sender)
        while self._away and (
            len(self._away) > self._policy.keep
            or now - next(iter(self._away.values())).packet.timestamp / 1000 > self._policy.keep_s
        ):
            self._away.popitem(last=False)
        self._asked.clear()

    def _fresh(self, kinds: Iterable[int], now: float) -> list[_Kept]:
        return [
            one
            for kind in kinds
            for one in self._kept.get(kind, OrderedDict()).values()
            if not self._stale(one.packet, now)
        ]

    def _stale(self, packet: Packet, now: float) -> bool:
        said = packet.kind in (Kind.MESSAGE, Kind.GROUP_MESSAGE)
        age = now - packet.timestamp / 1000
        return age > (self._policy.keep_s if said else self._policy.other_s)

    def _said(self, now: float) -> None:
        quiet = now - self._said_at >= self._policy.idle_s
        self._said_at = now
        if quiet:
            # Who missed this has, as a rule, a neighbour that will say so soon.
            for neighbour in self._neighbours.values():
                at = now + self._policy.busy_s * self._rng.uniform(0.3, 1.0)
                neighbour.next_at = min(neighbour.next_at, at)


def _in_turn(found: list[_Kept], away: Mapping[bytes, _Kept], most: int) -> list[Packet]:
    """Which are given, if not all fit: in turn of each kind and of each link that brought some.

    Of those the newest, because their flood may just have been lost; and with what somebody said
    the announce that shows that it was he.
    """
    announces = {
        **away,
        **{one.packet.sender: one for one in found if one.packet.kind == Kind.ANNOUNCE},
    }
    heaps: OrderedDict[tuple[int, Link | None], list[_Kept]] = OrderedDict()
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
