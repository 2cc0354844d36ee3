"""Announces and leaves: this node's own, and those of others."""

from __future__ import annotations

from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.clocks import Clocks
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.news import PeerAway, PeerNear
from fog_compute.p2p.bitchat.mesh.peers import AnnounceTimes, AnnounceVerdict, Peer, PeersPolicy
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.announce import MAX_NEIGHBOURS, verified_announce
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import MAX_TTL, Packet
from fog_compute.p2p.bitchat.wire.signing import verify

__all__ = ["Announcing"]

REFUSED: Final = {
    AnnounceVerdict.OLD: Drop.OLD,
    AnnounceVerdict.KEY_CHANGED: Drop.KEY_CHANGED,
}


class Announcing:
    """Says who this node is, and hears who others are."""

    __slots__ = ("_clocks", "_last", "_station", "_times")

    def __init__(self, station: Station, policy: PeersPolicy) -> None:
        self._station: Final = station
        self._times: Final = AnnounceTimes(policy, station.rng)
        self._last: Packet | None = None
        self._clocks: Final = Clocks(station.guard.skew_s)

    def up(self, link: Link, now: float) -> None:
        """Say who this is to somebody new."""
        if self._last is not None and self._times.again(now):
            self._station.outbound.hand(self._last, link)
        else:
            self._times.soon(now)

    def soon(self, now: float) -> None:
        """Announce now: something changed."""
        self._times.soon(now)

    def due(self, now: float) -> None:
        """Announce if it is time, and say who was not heard for long."""
        station = self._station
        for gone in station.peers.gone(now):
            station.gossip.away(gone, now)
            station.tell(PeerAway(gone))
        if self._times.due(now, len(station.outbound.links)):
            announce = station.announce(station.peers.neighbours(MAX_NEIGHBOURS))
            self._last = station.make(Kind.ANNOUNCE, announce.encode(), now)
            station.send_all(self._last, now)

    @property
    def next_due(self) -> float:
        """When :meth:`due` has something to do."""
        return min(self._station.peers.next_due, self._times.next_due)

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Take an announce or a leave of somebody else."""
        if packet.kind == Kind.LEAVE:
            return self._leaves(packet, now)
        station = self._station
        try:
            announce = verified_announce(packet)
        except Malformed as malformed:
            return Drop.SIGNATURE if malformed.reason is Reason.SIGNATURE else Drop.CONTENT
        live = station.guard.live(packet, now)
        self._note_time(packet, link, now)
        verdict = station.peers.take(packet, announce, link, now, live)
        if verdict in REFUSED:
            return REFUSED[verdict]
        station.gossip.announced(packet.sender)
        peer = station.peers.get(packet.sender)
        if peer is None or not live:
            return None
        peer.hops = MAX_TTL - min(packet.ttl, MAX_TTL) + 1
        if packet.ttl == MAX_TTL:
            station.peers.bind(packet, link)
        station.tell(near(peer))
        return None

    def off_time(self, packet: Packet, link: Link, now: float) -> None:
        """An announce was refused for its time: it may tell that a neighbour's clock is wrong."""
        if packet.ttl != MAX_TTL or packet.sync_answer or not self._clocks.looks(link, now):
            return
        try:
            verified_announce(packet)
        except Malformed:
            return
        self._note_time(packet, link, now)

    def down(self, link: Link) -> None:
        """A link is over."""
        self._clocks.down(link)

    def _note_time(self, packet: Packet, link: Link, now: float) -> None:
        if packet.ttl == MAX_TTL and not packet.sync_answer:
            found = self._clocks.note(link, packet.timestamp / 1000, now)
            if found is not None:
                self._station.tell(found)

    def again(self, packet: Packet, link: Link, now: float) -> None:
        """A copy of an announce came that was taken before: it may show whose a link is."""
        if packet.ttl != MAX_TTL or not self._station.guard.live(packet, now):
            return
        was = self._station.peers.at(link)
        peer = self._station.peers.get(packet.sender)
        if was != packet.sender and peer is not None and self._station.peers.bind(packet, link):
            peer.hops = 1
            self._station.tell(near(peer))

    def leave(self, now: float) -> None:
        """Say that this node goes."""
        self._station.outbound.launch(self._station.make(Kind.LEAVE, b"", now), now)

    def _leaves(self, packet: Packet, now: float) -> Drop | None:
        station = self._station
        peer = station.peers.get(packet.sender)
        if peer is None:
            return Drop.UNKNOWN_SENDER
        if not verify(packet, peer.signing_key):
            return Drop.SIGNATURE
        if packet.timestamp <= peer.stamp:
            return Drop.OLD
        if station.peers.leave(packet):
            station.tell(PeerAway(packet.sender))
        station.gossip.away(packet.sender, now)
        return None


def near(peer: Peer) -> PeerNear:
    """What the application hears of a peer."""
    return PeerNear(peer.peer_id, peer.announce, peer.hops, bool(peer.links))
