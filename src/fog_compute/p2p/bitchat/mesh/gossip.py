"""Gossip sync: neighbours are asked for what they have and this node missed.

A flood is quick and loses what a link loses in silence. So each node keeps what was said to all,
and asks its neighbours in turn, with a set of what it has; they send the rest. It asks soon where
somebody new is or where something was said just now, and rarely where all is quiet.

Between nodes of our sort a question also tells. Where it is in doubt whether a neighbour got what
it was given (``doubts.py``), it is asked with a short set, of what was said in the last seconds;
whoever finds members in it that it lacks asks back, and has them a moment later.

What is given is bounded for each neighbour, and an answer to nothing that was asked is refused.
No neighbour is asked more often than the app answers.

Source: ``GossipSyncManager.swift``, ``RequestSyncManager.swift``, ``SyncResponseRateLimiter.swift``
of the app.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.asking import Back, GossipPolicy, Neighbour, Window
from fog_compute.p2p.bitchat.mesh.doubts import Doubts
from fog_compute.p2p.bitchat.mesh.kept import KEPT, SAID, Kept, Store, in_turn
from fog_compute.p2p.bitchat.wire.gcs import Members, build_hashed, hashed, place
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import FLAGS_AT, SYNC_ANSWER, TTL_AT, Packet
from fog_compute.p2p.bitchat.wire.sync import SyncRequest, packet_id

__all__ = ["Gossip", "GossipPolicy", "as_flooded"]

EVERYTHING_SAID: Final = SAID | {Kind.ANNOUNCE}
"""What a round is about. Fragments are asked for by name, where some are missing."""

MOST_PUT_OFF: Final = 128
"""Messages that nobody here can check, of which neighbours are told that they are had."""

MORE_MEMBERS: Final = 8
"""So many members of a set, and fewer, are no packets: a byte each."""

SHORT_BYTES: Final = 96
"""Bytes of a short set: some sixty packets."""

SHORT_WRONG: Final = 0.001
"""How often a short set takes something else for a member: the next one may be long in coming."""

SHORT_AGE_S: Final = 300.0
"""What a short set begins with is never older: its sender's clock may be wrong by two minutes."""


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
        shown: short questions asked.
    """

    __slots__ = (
        "_asked",
        "_doubts",
        "_lately",
        "_neighbours",
        "_policy",
        "_put_off",
        "_rng",
        "_said_at",
        "_short",
        "_store",
        "refused",
        "shown",
    )

    def __init__(self, policy: GossipPolicy, rng: Random) -> None:
        self._policy: Final = policy
        self._rng: Final = rng
        self._store: Final = Store(policy.kept)
        self._doubts: Final = Doubts(policy.doubts)
        self._put_off: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._asked: dict[int, tuple[float, SyncRequest]] = {}
        self._lately: deque[tuple[float, int]] = deque()
        self._short: tuple[int, SyncRequest] | None = None
        self._neighbours: dict[Link, Neighbour] = {}
        self._said_at = float("-inf")
        self.refused = self.shown = 0

    def __len__(self) -> int:
        return len(self._store)

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return self._store.size

    def up(self, link: Link, now: float) -> None:
        """A neighbour that will be asked soon."""
        policy = self._policy
        self._neighbours[link] = Neighbour(
            now + policy.first_s * self._rng.uniform(0.6, 1),
            Window(policy.answers, policy.window_s),
            Window(policy.answers, policy.window_s),
            Window(policy.short_answers, policy.window_s),
            policy.back_s[0],
            now + policy.prekeys_s * self._rng.uniform(0.4, 1),
        )

    def down(self, link: Link) -> None:
        """A neighbour that is gone."""
        self._neighbours.pop(link, None)
        self._doubts.down(link)

    def keep(self, packet: Packet, now: float, source: Link | None = None) -> None:
        """Keep a packet that is for all and was found good.

        Args:
            packet: what to keep.
            now: seconds.
            source: the link that brought it; ``None`` if it is this node's own.
        """
        if packet.kind not in KEPT:
            return
        if packet.kind == Kind.PREKEY_BUNDLE:
            # What a neighbour was given for itself alone is not what all others have.
            if packet.ttl or packet.sync_answer:
                self._store.keep(packet, now, source)
            return
        self._store.keep(packet, now, source)
        self._asked.clear()
        if packet.kind in SAID and now - packet.timestamp / 1000 <= SHORT_AGE_S:
            self._lately.append((now, packet.timestamp))
            self._short = None
        if packet.kind != Kind.ANNOUNCE:
            self._said(now)

    def away(self, peer_id: bytes, now: float) -> None:
        """Give a peer's announce only to who gets what the peer said: it is near no more."""
        if self._store.go_away(peer_id, now):
            self._asked.clear()

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

    def given(self, key: bytes, packet: Packet, links: Iterable[Link], now: float) -> None:
        """Neighbours of our sort are given what somebody said; it may be lost on the way."""
        self._doubts.given(links, key, hashed(packet_id(packet)), now)

    def arrived(self, key: bytes, link: Link) -> None:
        """A neighbour has what it was given: a copy came from there."""
        self._doubts.arrived(link, key)

    def hurry(self, link: Link, now: float) -> None:
        """Ask a neighbour soon: it seems to have something that is missing here."""
        neighbour = self._neighbours.get(link)
        if neighbour is not None:
            gap = self._policy.first_s
            earliest = now if neighbour.asked_at is None else neighbour.asked_at + 2 * gap
            neighbour.next_at = min(neighbour.next_at, max(now + gap / 5, earliest))

    def due(
        self, now: float, ours: Callable[[Link], bool]
    ) -> tuple[list[Link], dict[Link, SyncRequest]]:
        """Neighbours to be asked now, and short questions for others; all count as asked.

        Args:
            now: seconds.
            ours: whether a neighbour is of our sort: it knows what to do with a short one.
        """
        links = []
        for link, neighbour in self._neighbours.items():
            if neighbour.next_at > now:
                continue
            if not neighbour.asks.take(now):
                neighbour.next_at = neighbour.asks.next_at
                continue
            busy = now - self._said_at < self._policy.idle_s
            pause = self._policy.busy_s if busy else self._policy.idle_s
            if busy and ours(link):
                pause = self._policy.ours_s
            neighbour.asked_at = now
            neighbour.next_at = now + pause * self._rng.uniform(0.8, 1.0)
            links.append(link)
        return links, self._due_short(now)

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has somebody."""
        times = [one.next_at for one in self._neighbours.values()]
        times += [one.back.at for one in self._neighbours.values() if one.back is not None]
        doubts = self._doubts.next_due
        return min(times if doubts is None else [*times, doubts], default=None)

    def missing(self, sets: Iterable[bytes], now: float) -> SyncRequest:
        """A question for the fragments of some sets."""
        wanted = frozenset(sets)
        mine = self._store.fresh({Kind.FRAGMENT}, now)
        has, _ = build_hashed([one.hash for one in mine if one.set_id in wanted])
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
        mine = [*self._store.fresh(EVERYTHING_SAID, now), *self._store.away]
        mine.sort(key=lambda one: -one.packet.timestamp)
        longest = self._policy.kept.other_s
        while self._put_off and now - next(iter(self._put_off.values()))[1] > longest:
            self._put_off.popitem(last=False)
        fill = [self._rng.getrandbits(63) for _ in range(more)]
        put_off = [hashed(one) for one in self._put_off]
        has, count = build_hashed([*fill, *(one.hash for one in mine), *put_off])
        count = min(count - more, len(mine))
        # What did not fit is older than this, and is not asked for.
        since = mine[count - 1].packet.timestamp if 0 < count < len(mine) else None
        request = SyncRequest(has, EVERYTHING_SAID, since)
        self._asked[more] = (now, request)
        return request

    def _short_question(self, now: float, since: int) -> SyncRequest:
        """What this node has of what was said lately: all from a time on, or from an earlier one.

        Whoever asks back says from when: of what he lacks he does not know how old it is.
        """
        while self._lately and now - self._lately[0][0] > self._policy.lately_s:
            self._lately.popleft()
            self._short = None
        earliest = int((now - SHORT_AGE_S) * 1000)
        since = max(earliest, min(since, min((made for _, made in self._lately), default=since)))
        if self._short is None or self._short[0] != since:
            mine = sorted(
                self._store.fresh(SAID, now, since), key=lambda one: -one.packet.timestamp
            )
            has, count = build_hashed(
                [one.hash for one in mine], size=SHORT_BYTES, false_positives=SHORT_WRONG
            )
            cut = 0 < count < len(mine)
            began = mine[count - 1].packet.timestamp if cut else since
            self._short = since, SyncRequest(has, SAID, began)
        return self._short[1]

    def wants_prekeys(self, link: Link, now: float) -> bool:
        """Whether it is time to ask a neighbour for prekeys; it counts as asked."""
        neighbour = self._neighbours.get(link)
        if neighbour is None or neighbour.prekeys_at > now or not neighbour.asks.take(now):
            return False
        neighbour.prekeys_at = now + self._policy.prekeys_s
        return True

    def question_of_prekeys(self, now: float) -> SyncRequest:
        """What this node has of everybody's prekeys."""
        mine = list(self._store.fresh({Kind.PREKEY_BUNDLE}, now))
        mine.sort(key=lambda one: -one.packet.timestamp)
        has, _ = build_hashed([one.hash for one in mine])
        return SyncRequest(has, frozenset({Kind.PREKEY_BUNDLE}))

    def may_ask(self, link: Link, now: float) -> bool:
        """Whether a neighbour may be asked for something particular now; it counts as asked."""
        neighbour = self._neighbours.get(link)
        if neighbour is None or not neighbour.asks.take(now):
            return False
        neighbour.asked_at = now
        return True

    def asked(self, link: Link, now: float) -> bool:
        """Whether a neighbour owes an answer."""
        neighbour = self._neighbours.get(link)
        return (
            neighbour is not None
            and neighbour.asked_at is not None
            and now - neighbour.asked_at <= self._policy.asked_s
        )

    def brought(self, link: Link) -> None:
        """An answer of a neighbour had something that was missing here."""
        neighbour = self._neighbours.get(link)
        if neighbour is not None:
            neighbour.back_gap = self._policy.back_s[0]

    def answer(
        self, link: Link, request: SyncRequest, now: float, most: int | None = None
    ) -> list[Packet]:
        """What a neighbour lacks, the oldest first; nothing if it asks too often.

        Args:
            link: whose question it is.
            request: the question.
            now: seconds.
            most: packets that there is room for, if that is less than is given anyway.
        """
        neighbour = self._neighbours.get(link)
        if neighbour is None:
            return []
        short = is_short(request, now)
        if not (neighbour.short_answers if short else neighbour.answers).take(now):
            self.refused += 1
            return []
        kinds = request.kinds or frozenset({Kind.ANNOUNCE, Kind.MESSAGE})
        members = request.has.members()
        self._doubts.has(link, members)
        mine = [
            one
            for one in self._store.fresh(kinds, now, request.since_ms or 0)
            if one.packet.kind != Kind.FRAGMENT
            or request.fragments is None
            or one.set_id in request.fragments
        ]
        if short:
            self._compare(neighbour, request, members, mine, now)
        # What came just now is on its way to the neighbour, too.
        settled = now - self._policy.settle_s if short else now
        found = [one for one in mine if one.at <= settled and not members.holds(one.hash)]
        senders = {
            one.packet.sender: one
            for one in self._store.away
            if not short and not members.holds(one.hash)
        }
        room = self._policy.packets if most is None else min(most, self._policy.packets)
        given = in_turn(found, senders, room)
        # Announces first: what their peers said cannot be checked before.
        given.sort(key=lambda one: (one.kind != Kind.ANNOUNCE, -one.timestamp))
        return [one.as_sync_answer() for one in given]

    def _compare(
        self,
        neighbour: Neighbour,
        request: SyncRequest,
        members: Members,
        mine: list[Kept],
        now: float,
    ) -> None:
        """Ask back for what a neighbour has lately and this node has not."""
        lacking = members.values - {place(one.hash, members.m) for one in mine}
        if not lacking:
            neighbour.back = None
            return
        at = max(now + self._policy.settle_s, neighbour.backed_at + neighbour.back_gap)
        if neighbour.back is not None:
            at = min(at, neighbour.back.at)
        neighbour.back = Back(at, request.since_ms or 0, members.m, lacking)

    def _due_short(self, now: float) -> dict[Link, SyncRequest]:
        now_ms = int(now * 1000)
        since = {link: now_ms for link in self._doubts.due(now) if link in self._neighbours}
        for link, neighbour in self._neighbours.items():
            back = neighbour.back
            if back is None or back.at > now:
                continue
            neighbour.back = None
            mine = self._store.fresh(SAID, now, back.since_ms)
            if back.lacking <= {place(one.hash, back.m) for one in mine}:
                continue  # it came meanwhile
            neighbour.backed_at = now
            neighbour.back_gap = min(2 * neighbour.back_gap, self._policy.back_s[1])
            since[link] = back.since_ms
        for link in since:
            self._neighbours[link].asked_at = now
        self.shown += len(since)
        return {link: self._short_question(now, ms) for link, ms in since.items()}

    def _said(self, now: float) -> None:
        quiet = now - self._said_at >= self._policy.idle_s
        self._said_at = now
        if quiet:
            # Who missed this has, as a rule, a neighbour that will say so soon.
            for neighbour in self._neighbours.values():
                at = now + self._policy.busy_s * self._rng.uniform(0.3, 1.0)
                neighbour.next_at = min(neighbour.next_at, at)


def is_short(request: SyncRequest, now: float) -> bool:
    """Whether a question is about what was said lately, and has all of it in its set."""
    kinds, since = request.kinds or EVERYTHING_SAID, request.since_ms
    return kinds <= SAID and since is not None and now - since / 1000 <= SHORT_AGE_S
