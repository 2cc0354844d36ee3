"""The way out: packets of this node and of others become frames on links, each in its turn.

Joins the flood, which says who is given what, and the frames, which say when. Packets that are
longer than a frame leave in fragments; each of those is a packet of its own to everybody else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.events import Link, SendFrame
from fog_compute.p2p.bitchat.managed_flood import Copy, FloodPolicy, ManagedFlood, Relay
from fog_compute.p2p.bitchat.mesh.frames import Frames, FramesPolicy, Lost, Urgency
from fog_compute.p2p.bitchat.mesh.news import PartSent
from fog_compute.p2p.bitchat.wire.fragments import MAX_PIECES, SAFE_FRAME_BYTES, SET_ID_BYTES, cut
from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, fixed, is_answer

__all__ = ["KEY_BYTES", "Outbound", "flood_key", "urgency"]

About: TypeAlias = tuple[bytes, int] | None
"""Of a frame: the key of its flood and the TTL with which it left; None of one for a link alone."""

KEY_BYTES: Final = 16

URGENT: Final = frozenset(
    {Kind.NOISE_HANDSHAKE, Kind.PING, Kind.PONG, Kind.REQUEST_SYNC, Kind.LEAVE}
)
BULKY: Final = frozenset({Kind.FRAGMENT, Kind.FILE_TRANSFER})


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A piece of a packet of this node's own, the ``number``-th ``of`` so many."""

    piece: Packet
    only: tuple[Link, ...] | None
    token: str
    number: int
    of: int

    @property
    def is_step(self) -> bool:
        """Whether it is told that this one left."""
        steps = min(self.of, STEPS)
        return bool(self.token) and self.number * steps // self.of > (
            (self.number - 1) * steps // self.of
        )


def flood_key(packet: Packet) -> bytes:
    """Names a packet, whatever a relay does to it: no TTL, no flag, no signature, no compression.

    The app's own key leaves out recipient and route as well; then whoever sends somebody's packet
    with another recipient keeps the real one out.
    """
    hashed = hashlib.sha256(
        b"%c%b%b%b%c"
        % (
            packet.kind,
            packet.timestamp.to_bytes(8),
            packet.sender,
            packet.recipient or BROADCAST,
            len(packet.route),
        )
    )
    for hop in packet.route:
        hashed.update(hop)
    hashed.update(packet.payload)
    return hashed.digest()[:KEY_BYTES]


def urgency(packet: Packet) -> Urgency:
    """In which order a packet leaves."""
    if packet.kind in BULKY or packet.sync_answer:
        return Urgency.BULK
    if packet.kind == Kind.ANNOUNCE:
        return Urgency.ANNOUNCE
    return Urgency.SESSION if packet.kind in URGENT else Urgency.TEXT


class Outbound:
    """The flood and the frames of one node."""

    __slots__ = ("_backlog", "_flood", "_frames", "_mtus", "_rng")

    def __init__(
        self,
        flood: FloodPolicy,
        frames: FramesPolicy,
        rng: Random,
    ) -> None:
        self._flood: Final[ManagedFlood[Packet]] = ManagedFlood(flood, rng)
        self._frames: Final[Frames[About]] = Frames(frames, self._wanted)
        self._mtus: dict[Link, int] = {}
        self._rng: Final = rng
        self._backlog: deque[_Waiting] = deque()

    def __contains__(self, key: bytes) -> bool:
        return key in self._flood

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, the oldest first."""
        return tuple(self._mtus)

    @property
    def counts(self) -> dict[str, int]:
        """Frames sent, sent again, given up, and refused because too many waited."""
        frames = self._frames
        return {
            "sent": frames.sent,
            "repeated": frames.repeated,
            "given_up": frames.given_up,
            "refused": frames.refused,
        }

    @property
    def full(self) -> bool:
        """Whether so much waits to leave that more is not taken."""
        return len(self._backlog) >= MOST_WAITING

    def up(self, link: Link, mtu: int) -> None:
        """A link can carry frames."""
        self._mtus[link] = mtu
        self._frames.up(link)

    def down(self, link: Link) -> None:
        """A link is over."""
        self._mtus.pop(link, None)
        self._flood.link_down(link)
        self._frames.down(link)

    def launch(
        self,
        packet: Packet,
        now: float,
        only: Iterable[Link] | None = None,
        token: str = "",
    ) -> list[Packet]:
        """Send a packet of this node's own.

        Args:
            packet: what leaves.
            now: the time.
            only: the links over which it goes; None for all.
            token: :class:`PartSent` has it; "" where nobody wants to know.

        Returns:
            What it leaves as.
        """
        links = None if only is None else tuple(only)
        pieces = self._pieces(packet, self._mtus if links is None else links)
        if len(pieces) == 1:
            self._flood.start(flood_key(packet), packet, now, only=links)
        else:  # they leave as fast as the links take them
            of = len(pieces)
            self._backlog.extend(
                _Waiting(piece, links, token, number, of) for number, piece in enumerate(pieces, 1)
            )
        return pieces

    def hand(self, packet: Packet, link: Link) -> bool:
        """Give a packet to one neighbour, as it is; False if there is no room."""
        pieces = self._pieces(packet, (link,))
        return all(self._frames.put(link, _frame(one), urgency(one), None) for one in pieces)

    def answer(self, packets: Sequence[Packet], link: Link) -> None:
        """Give a neighbour what it asked for, but for what is on its way to it already.

        A link that is slow would otherwise carry the same again with each question, and be slower.
        """
        under_way = {fixed(data) for data in self._frames.held(link)}
        for one in packets:
            if fixed(one.on_air) not in under_way and not self.hand(one, link):
                return

    def room(self, link: Link) -> int:
        """How many answers a neighbour may be given now: few, as long as others wait."""
        waiting = sum(is_answer(data) for data in self._frames.held(link))
        return max(0, AHEAD - waiting)

    def heard(self, key: bytes, packet: Packet, link: Link, now: float) -> None:
        """Pass a packet on that came in and was found good, if that helps anybody."""
        self._flood.heard(key, packet.bare, packet.ttl, link, now, len(self._mtus))

    def heard_again(self, key: bytes, packet: Packet, link: Link, now: float) -> Copy:
        """Take a copy of what came before; what is passed on is the one that was checked."""
        if key not in self._flood:
            return Copy.DUPLICATE
        return self._flood.heard(key, packet, packet.ttl, link, now, len(self._mtus))

    def steer(self, key: bytes, links: Iterable[Link]) -> None:
        """Pass a packet on to some neighbours alone."""
        self._flood.only(key, links)

    def answered(self, link: Link, token: int, ok: bool, now: float) -> None:
        """What became of a frame."""
        self._lost(self._frames.answered(link, token, ok, now))

    def due(self, now: float) -> list[SendFrame | PartSent]:
        """The frames that leave now, and how far what is long has come."""
        told: list[SendFrame | PartSent] = []
        if self._backlog:
            for _ in range(self._room(self._backlog[0].only)):
                one = self._backlog.popleft()
                self._flood.start(flood_key(one.piece), one.piece, now, only=one.only)
                if one.is_step and any(link in self._mtus for link in one.only or self._mtus):
                    told.append(PartSent(one.token, one.number, one.of))
        if relays := self._flood.due(now, self._mtus):
            self._put_all(relays)
        frames, lost = self._frames.due(now)
        if lost:
            self._lost(lost)
        told += frames
        return told

    def _put_all(self, relays: Iterable[Relay[Packet]]) -> None:
        """Let packets wait for their links; each is made once for all links."""
        made: dict[tuple[bytes, int], bytes] = {}
        for relay in relays:
            about = (relay.key, relay.ttl)
            data = made.get(about)
            if data is None:
                data = made[about] = _frame(relay.packet.with_ttl(relay.ttl))
            room = self._mtus[relay.link]
            if relay.packet.kind != Kind.FRAGMENT:  # pieces have no pieces
                room = min(room, SAFE_FRAME_BYTES)
            if len(data) > room:
                put = self._put_cut(relay)
            else:
                how = urgency(relay.packet)
                put = self._frames.put(relay.link, data, how, about, relay.source)
            if not put:
                self._flood.lost(relay.key, relay.link, relay.ttl)

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something without anything else happening."""
        flood, frames = self._flood.next_due, self._frames.next_due
        if flood is None or frames is None:
            return frames if flood is None else flood
        return min(flood, frames)

    def _put_cut(self, relay: Relay[Packet]) -> bool:
        """Give a packet in pieces to a neighbour whose link takes less than others do."""
        whole, mtu = relay.packet.with_ttl(relay.ttl), self._mtus[relay.link]
        if whole.kind == Kind.FRAGMENT or mtu < SMALLEST_FRAME_BYTES:
            return False
        frame = min(mtu, SAFE_FRAME_BYTES)
        pieces = cut(whole, self._rng.randbytes(SET_ID_BYTES), frame=frame, pieces=MAX_PIECES)
        return all(
            self._frames.put(relay.link, one.on_air, urgency(whole), None, relay.source)
            for one in pieces
        )

    def _pieces(self, packet: Packet, links: Iterable[Link]) -> list[Packet]:
        """A packet as frames that these links take, but for those that take next to nothing."""
        most = SAFE_FRAME_BYTES
        room = min((self._mtus.get(link, most) for link in links), default=most)
        room = max(SMALLEST_FRAME_BYTES, min(most, room))
        if len(_frame(packet)) <= room or packet.kind == Kind.FRAGMENT:
            return [packet]
        return cut(packet, self._rng.randbytes(SET_ID_BYTES), frame=room, pieces=MAX_PIECES)

    def _room(self, only: tuple[Link, ...] | None) -> int:
        """How many pieces may join those that wait for these links; all where there is none."""
        links = self._mtus if only is None else only
        waiting = max((self._frames.waiting(link) for link in links), default=-AHEAD * 1_000)
        return min(len(self._backlog), max(0, AHEAD - waiting))

    def _wanted(self, link: Link, about: About) -> bool:
        return about is None or self._flood.wanted(about[0], link, about[1])

    def _lost(self, lost: Iterable[Lost[About]]) -> None:
        for one in lost:
            if one.about is not None:
                self._flood.lost(one.about[0], one.link, one.about[1])


def _frame(packet: Packet) -> bytes:
    """A packet as a link is given it: of padding no more than goes everywhere."""
    data = packet.on_air
    return data[:SAFE_FRAME_BYTES] if len(packet.wire) <= SAFE_FRAME_BYTES else data


AHEAD: Final = 64
"""Pieces of this node's own that wait for a link at once, so that what others say finds room."""

MOST_WAITING: Final = 8_192
"""Pieces of this node's own that wait in all: four files of a mebibyte each."""

STEPS: Final = 50
"""Times that it is told how far something has come."""

SMALLEST_FRAME_BYTES: Final = 180
"""Shorter frames are not made for the sake of one link: whoever asks for a small MTU would make
everybody's packets many. Old phones take 182 bytes."""
