"""What the parts of a node share: whose it is, its links, its peers, and what it wants done.

A part takes packets of its kinds and says why it refuses one; what it wants to send or tell goes
through here. Parts do not know each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol, TypeAlias

from fog_compute.p2p.bitchat.events import Disconnect, Link, SendFrame, WakeAt
from fog_compute.p2p.bitchat.mesh.gossip import Gossip
from fog_compute.p2p.bitchat.mesh.guard import Drop, Guard
from fog_compute.p2p.bitchat.mesh.kept import SAID
from fog_compute.p2p.bitchat.mesh.news import News
from fog_compute.p2p.bitchat.mesh.outbound import Outbound, flood_key
from fog_compute.p2p.bitchat.mesh.peers import PeerTable
from fog_compute.p2p.bitchat.wire.announce import Announce, Capability, peer_id
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import MAX_TTL, Packet, packet
from fog_compute.p2p.bitchat.wire.routes import route
from fog_compute.p2p.bitchat.wire.signing import Signer, sign

__all__ = ["FRESH_S", "MeshAction", "Owner", "Part", "Station"]

FRESH_S: Final = 60.0
"""Up to this age something said is on its way, and goes on from whoever got it late."""

MeshAction: TypeAlias = SendFrame | WakeAt | Disconnect | News


class Owner(Signer, Protocol):
    """Whose node it is."""

    @property
    def noise_public(self) -> bytes:
        """The X25519 key by which the owner is named, 32 bytes."""
        ...

    @property
    def noise_secret(self) -> bytes:
        """The secret of that key, 32 bytes, for sessions alone."""
        ...

    @property
    def signing_public(self) -> bytes:
        """The Ed25519 key that signs, 32 bytes."""
        ...


class Part(Protocol):
    """What knows one thing that travels."""

    def take(self, packet: Packet, link: Link, now: float, /) -> Drop | None:
        """Take a packet that is new here and of a time that fits; None if it was found good."""
        ...


@dataclass(slots=True)
class Station:
    """One node, as its parts see it.

    Attributes:
        owner: whose node it is.
        nickname: as whom the owner is known.
        capabilities: what the node can do beside plain chat.
        rng: for waits and nonces of pings; never for keys.
        outbound: the way out.
        peers: who is near.
        guard: what links may cost.
        gossip: what was said to all.
        actions: what is to be done, in this turn.
    """

    owner: Owner
    nickname: str
    capabilities: Capability
    rng: Random
    outbound: Outbound
    peers: PeerTable
    guard: Guard
    gossip: Gossip
    actions: list[MeshAction] = field(default_factory=list)
    me: bytes = b""
    _stamp: int = 0

    def __post_init__(self) -> None:
        self.me = peer_id(self.owner.noise_public)

    def tell(self, *actions: MeshAction) -> None:
        """Let something be done or known."""
        self.actions.extend(actions)

    def announce(self, neighbours: tuple[bytes, ...]) -> Announce:
        """What the node says of itself now."""
        return Announce(
            self.nickname,
            self.owner.noise_public,
            self.owner.signing_public,
            neighbours,
            self.capabilities,
        )

    def make(
        self,
        kind: Kind,
        payload: bytes,
        now: float,
        *,
        to: bytes | None = None,
        ttl: int = MAX_TTL,
        signed: bool = True,
        version: int = 1,
        through: tuple[bytes, ...] = (),
        sent_ms: int | None = None,
    ) -> Packet:
        """A packet of this node; no two have the same time, but for those whose time is given.

        Raises:
            Malformed: the payload is too long.
        """
        if sent_ms is None:
            self._stamp = max(self._stamp + 1, int(now * 1000))
        made = packet(
            kind,
            self.me,
            self._stamp if sent_ms is None else sent_ms,
            payload,
            recipient=to,
            ttl=ttl,
            version=version,
            route=through,
        )
        return sign(made, self.owner) if signed else made

    def ours(self, link: Link) -> bool:
        """Whether who is at the other end says to be of our sort."""
        peer = self.peers.get(self.peers.at(link) or b"")
        return peer is not None and peer.is_ours

    def knows_prekeys(self, link: Link) -> bool:
        """Whether who is at the other end says to know of prekeys."""
        peer = self.peers.get(self.peers.at(link) or b"")
        can = None if peer is None else peer.announce.capabilities
        return can is not None and Capability.PREKEYS in can

    def ask(self, payload: bytes, link: Link, now: float) -> None:
        """Ask a neighbour for what was missed; the app wants it signed, and addressed."""
        made = self.make(Kind.REQUEST_SYNC, payload, now, to=self.peers.at(link), ttl=0)
        self.outbound.hand(made, link)

    def doubt(self, key: bytes, packet: Packet, now: float, source: Link | None = None) -> None:
        """All neighbours but one are given what somebody said just now: see whether they got it."""
        if packet.kind in SAID and now - packet.timestamp / 1000 <= FRESH_S:
            links = [one for one in self.outbound.links if one != source and self.ours(one)]
            self.gossip.given(key, packet, links, now)

    def send_all(self, made: Packet, now: float, token: str = "") -> None:
        """Send a packet for everybody, and keep it for those who miss it or a piece of it."""
        self.gossip.keep(made, now)
        self.doubt(flood_key(made), made, now)
        for piece in self.outbound.launch(made, now, token=token):
            if piece is not made:
                self.gossip.keep(piece, now)

    def way_to(self, peer_id: bytes) -> tuple[tuple[bytes, ...], frozenset[Link]]:
        """How a peer is best reached: over which peers, and over which links of this node.

        No peers if it is a neighbour, and neither where no way is known. Only peers that say that
        they are of our sort are on it: others may not read packets of version 2, which have routes.
        """
        links = self.peers.links_to(peer_id)
        if links:
            return (), links
        ours = {
            peer.peer_id: peer.announce.neighbours
            for peer in self.peers
            if peer.near and peer.is_ours
        }
        between = route(self.peers.linked, peer_id, ours)
        return (between, self.peers.links_to(between[0])) if between else ((), frozenset())

    def way_of(self, packet: Packet) -> frozenset[Link]:
        """The links to the next hop of a packet's route, or to its recipient; none to flood it."""
        peers, hops = self.peers, packet.route
        if self.me in hops:
            rest = (*hops[hops.index(self.me) + 1 :], packet.recipient or b"")
            return peers.links_to(rest[0])
        to_recipient = peers.links_to(packet.recipient or b"")
        if to_recipient or not hops:
            return to_recipient
        return peers.links_to(hops[0])

    def send_to(self, made: Packet, now: float) -> None:
        """Send a packet for one peer: over its own links if there are any, to all otherwise."""
        links = self.peers.links_to(made.recipient or b"")
        self.outbound.launch(made, now, links or None)
