"""Prekeys in the mesh: a node's own are given to each neighbour, and now and then to all.

What goes to all is kept for whoever asks for prekeys, its own and those of others (``gossip.py``).

Source: the prekey part of ``BLEService.swift`` of the app. It gives them to all at its start, too.
"""

from __future__ import annotations

import math
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mail.prekey_books import OwnPrekeys, PeerPrekeys
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.peers import Peer
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.announce import Capability
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.prekeys import PrekeyBundle, signed_bundle
from fog_compute.p2p.bitchat.wire.signing import verify

__all__ = ["Prekeying", "knows_prekeys"]

AGAIN_S: Final = 3_600.0
"""Between two times that prekeys are given to all: the app's."""

SOON_S: Final = 30.0
"""After which they are, once they have changed: more may change before."""

FRESH_S: Final = 60.0
"""Age up to which the same packet serves: others take packets of up to two minutes."""


def knows_prekeys(peer: Peer) -> bool:
    """Whether a peer says that its program knows of prekeys."""
    return Capability.PREKEYS in (peer.announce.capabilities or Capability(0))


class Prekeying:
    """Gives a node's prekeys, and takes those of others.

    Attributes:
        dirty: whether something changed that has to be kept.
    """

    __slots__ = ("_bundle", "_own", "_peers", "_publish_at", "_station", "_told", "dirty")

    def __init__(self, station: Station, own: OwnPrekeys, peers: PeerPrekeys) -> None:
        """Prekeys are drawn once there is somebody to give them to."""
        self._station: Final = station
        self._own: Final = own
        self._peers: Final = peers
        self._bundle: Packet | None = None
        self._told: set[Link] = set()
        self._publish_at: float | None = None
        self.dirty = False

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something."""
        expiry = self._own.next_expiry_ms
        times = [] if expiry is None else [expiry / 1000]
        times += [] if self._publish_at is None else [self._publish_at]
        return min(times, default=None)

    def due(self, now: float) -> None:
        """Erase secrets, and give what is left to all if it is time."""
        now_ms, expiry = math.floor(now * 1000), self._own.next_expiry_ms
        if expiry is not None and expiry <= now_ms:
            self._own.refresh(now_ms)
            self._changed(now)
        if self._publish_at is not None and self._publish_at <= now:
            self._publish_at = now + AGAIN_S * self._station.rng.uniform(0.9, 1.1)
            if self._station.outbound.links:
                made = self._new(now)
                self._station.gossip.keep(made, now)
                self._station.outbound.launch(made, now)

    def used(self, now: float) -> None:
        """Something came that was sealed to one of them: it is offered no more."""
        self._changed(now)

    def met(self, peer: Peer, now: float) -> None:
        """Give them to a neighbour that does not have them."""
        links = peer.links - self._told
        if not links or not knows_prekeys(peer):
            return
        made = self._made(now)
        self._told |= peer.links
        # It goes no further, and nobody keeps it for others: it is younger than what all have.
        self._station.outbound.hand(made.with_ttl(0), min(links))
        if self._publish_at is None:
            self._station.gossip.keep(self._new(now), now)
            self._publish_at = now + AGAIN_S * self._station.rng.uniform(0.1, 1.0)

    def down(self, link: Link) -> None:
        """A link is over."""
        self._told.discard(link)

    def take(self, packet: Packet, link: Link) -> Drop | None:
        """Take prekeys of somebody else, whom they are signed by, inside and outside."""
        try:
            bundle = PrekeyBundle.decode(packet.payload)
        except Malformed:
            return Drop.CONTENT
        peer = self._station.peers.get(packet.sender)
        if peer is None:
            return Drop.UNKNOWN_SENDER
        if bundle.noise_key != peer.noise_key:
            return Drop.CONTENT
        if not (verify(packet, peer.signing_key) and bundle.verifies(peer.signing_key)):
            return Drop.SIGNATURE
        if self._peers.take(bundle, link):
            self.dirty = True
        return None

    def _changed(self, now: float) -> None:
        self.dirty = True
        self._bundle = None
        if self._publish_at is not None:
            self._publish_at = min(self._publish_at, now + SOON_S)

    def _made(self, now: float) -> Packet:
        """The packet in which they are given; the same one for a while."""
        own = self._own
        if own.refresh(math.floor(now * 1000)):
            self.dirty = True
            self._bundle = None
        if self._bundle is None or now - self._bundle.timestamp / 1000 > FRESH_S:
            self._bundle = self._new(now)
        return self._bundle

    def _new(self, now: float) -> Packet:
        own, owner = self._own, self._station.owner
        if own.refresh(math.floor(now * 1000)):
            self.dirty = True
        bundle = signed_bundle(owner.noise_public, own.public(), own.made_ms, owner)
        return self._station.make(Kind.PREKEY_BUNDLE, bundle.encode(), now)
