"""Who is near: what peers announced, by which links they are, and when this node announces itself.

A peer's keys are those of its first announce, or those that the book of contacts has: a signing key
that changes is refused. An announce counts once, and one that is older than the newest of its peer
not at all, so that nobody brings a peer back who has left by repeating what it said.

A link is a peer's if the peer's announce came over it with all its hops left. Whoever passes an
announce on without taking a hop off can claim that; so such a link is where a peer is asked for
first, and no proof that it is there.

Source: ``BLEAnnounceHandlingPolicy.swift``, ``BLEPeerRegistry.swift`` of the app.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.wire.announce import Announce, Capability
from fog_compute.p2p.bitchat.wire.packet import Packet

__all__ = ["AnnounceTimes", "AnnounceVerdict", "Peer", "PeerTable", "PeersPolicy"]


@dataclass(frozen=True, slots=True)
class PeersPolicy:
    """All that can be chosen.

    Attributes:
        reachable_s: seconds for which a peer counts as near after it was last heard.
        most: peers in memory; of more, some are forgotten of the link that brought most: those
            first that were heard once, and longest ago.
        isolated_s: seconds between announces without a link.
        connected_s: shortest and longest time between announces with one.
        again_s: age in seconds up to which a new link is given the last announce once more.
    """

    reachable_s: float = 60.0
    most: int = 2_000
    isolated_s: float = 4.0
    connected_s: tuple[float, float] = (15.0, 30.0)
    again_s: float = 5.0


class AnnounceVerdict(enum.Enum):
    """What an announce, signed as it says, is to this node."""

    NEW = "new"
    """A peer that was not near before."""
    KNOWN = "known"
    """A peer that is near already."""
    OLD = "old-announce"
    """Its peer said something newer, or said that it leaves."""
    KEY_CHANGED = "key-changed"
    """Its keys are not those that the peer had."""


@dataclass(slots=True)
class Peer:
    """Somebody in the mesh.

    Attributes:
        peer_id: 8 bytes.
        noise_key: its X25519 key.
        signing_key: its Ed25519 key.
        announce: the newest that it said of itself.
        stamp: of that announce, in ms by the peer's clock.
        heard: when it was last heard, in seconds.
        met: when it was first heard of, in seconds.
        via: the link over which that was.
        near: whether it counts as reachable.
        again: whether it was heard more than once.
        pinned: whether it was known before this run.
        links: those on which its announce came with all hops left.
        hops: how far away its last announce came from, 1 for a neighbour.
    """

    peer_id: bytes
    noise_key: bytes
    signing_key: bytes
    announce: Announce
    stamp: int
    heard: float
    met: float
    via: Link
    near: bool = False
    again: bool = False
    pinned: bool = False
    links: set[Link] = field(default_factory=set)
    hops: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether it says that its program is one of our sort, which takes long sets of pieces."""
        return Capability.LONG_SETS in (self.announce.capabilities or Capability(0))


class PeerTable:
    """All peers that were heard of.

    ``pinned`` gives the signing key that somebody had before this run, or that a handshake proved.
    """

    __slots__ = ("_by_link", "_look_at", "_peers", "_pinned", "_policy", "_proved")

    def __init__(
        self, policy: PeersPolicy, pinned: Callable[[bytes], bytes | None] | None = None
    ) -> None:
        self._policy: Final = policy
        self._pinned = pinned or (lambda _peer_id: None)
        self._peers: dict[bytes, Peer] = {}
        self._by_link: dict[Link, bytes] = {}
        self._proved: set[Link] = set()
        self._look_at = math.inf

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, peer_id: bytes) -> Peer | None:
        """Somebody by the peer id."""
        return self._peers.get(peer_id)

    def at(self, link: Link) -> bytes | None:
        """Whose link it is."""
        return self._by_link.get(link)

    def links_to(self, peer_id: bytes) -> frozenset[Link]:
        """The links that are a peer's."""
        peer = self._peers.get(peer_id)
        return frozenset() if peer is None else frozenset(peer.links)

    @property
    def linked(self) -> frozenset[bytes]:
        """Peer ids of all to whom there is a link."""
        return frozenset(self._by_link.values())

    def neighbours(self, most: int) -> tuple[bytes, ...]:
        """Peer ids of some to whom there is a link, in a fixed order."""
        return tuple(sorted(set(self._by_link.values())))[:most]

    def take(
        self, packet: Packet, announce: Announce, link: Link, now: float, live: bool
    ) -> AnnounceVerdict:
        """Enter what a peer said of itself; its signature was found good.

        Args:
            packet: the announce.
            announce: what is in it.
            link: over which it came.
            now: the time.
            live: whether it is fresh enough to show that the peer is near.
        """
        peer = self._peers.get(packet.sender)
        pinned = self._pinned(packet.sender)
        known = pinned or (None if peer is None else peer.signing_key)
        if known is not None and known != announce.signing_key:
            return AnnounceVerdict.KEY_CHANGED
        if peer is not None and peer.noise_key != announce.noise_key:
            return AnnounceVerdict.KEY_CHANGED  # two keys whose hashes begin alike
        if peer is None:
            keys = announce.noise_key, announce.signing_key
            peer = Peer(packet.sender, *keys, announce, -1, now, met=now, via=link)
            peer.pinned = pinned is not None
            self._peers[packet.sender] = peer
        elif packet.timestamp <= peer.stamp:
            return AnnounceVerdict.OLD
        else:
            peer.again = True
        peer.announce, peer.stamp = announce, packet.timestamp
        self._trim(peer)
        if not live:
            return AnnounceVerdict.KNOWN
        was_near, peer.near, peer.heard = peer.near, True, now
        self._look_at = min(self._look_at, now + self._policy.reachable_s)
        return AnnounceVerdict.KNOWN if was_near else AnnounceVerdict.NEW

    def bind(self, packet: Packet, link: Link) -> bool:
        """Take a link for a peer's, whose newest announce came over it whole; False if it is not.

        A link that is somebody's stays so while that peer is near.
        """
        peer = self._peers.get(packet.sender)
        if peer is None or packet.timestamp != peer.stamp:
            return False
        other = self._peers.get(self._by_link.get(link, b""))
        if other is not None and other is not peer:
            if other.near:
                return False
            other.links.discard(link)
            self._proved.discard(link)
        self._by_link[link] = packet.sender
        peer.links.add(link)
        return True

    def prove(self, peer_id: bytes, signing_key: bytes) -> None:
        """A session with the peer proved its signing key: announces with another one are refused.

        What an announce with another key said before counts no more.
        """
        peer = self._peers.get(peer_id)
        if peer is not None and peer.signing_key != signing_key:
            peer.signing_key = signing_key
            peer.stamp = -1

    def prove_link(self, peer_id: bytes, link: Link) -> bool:
        """A session's packet came over a link that the peer's announce came over; True if new.

        That is as much as can be told: whoever passes on all between two, with all hops left, is
        taken for either of them.
        """
        if self._by_link.get(link) != peer_id or link in self._proved:
            return False
        self._proved.add(link)
        return True

    def proved_link(self, peer_id: bytes) -> Link | None:
        """A link that is proved to be a peer's."""
        peer = self._peers.get(peer_id)
        links = () if peer is None else sorted(peer.links & self._proved)
        return links[0] if links else None

    def heard(self, peer_id: bytes, now: float) -> None:
        """Something came that only this peer can have sent."""
        peer = self._peers.get(peer_id)
        if peer is not None and peer.near:
            peer.heard, peer.again = now, True

    def leave(self, packet: Packet) -> bool:
        """A peer says that it goes; False if it has said something newer."""
        peer = self._peers.get(packet.sender)
        if peer is None or packet.timestamp <= peer.stamp:
            return False
        peer.stamp = packet.timestamp
        was_near, peer.near = peer.near, False
        return was_near

    def link_down(self, link: Link) -> None:
        """A link is nobody's any more."""
        self._proved.discard(link)
        peer = self._peers.get(self._by_link.pop(link, b""))
        if peer is not None:
            peer.links.discard(link)

    def gone(self, now: float) -> list[bytes]:
        """Peers that are near no more since the last time that this was asked."""
        if now < self._look_at:
            return []
        found, self._look_at = [], math.inf
        for peer in self._peers.values():
            until = peer.heard + self._policy.reachable_s
            if peer.near and until <= now:
                peer.near = False
                found.append(peer.peer_id)
            elif peer.near:
                self._look_at = min(self._look_at, until)
        return found

    @property
    def next_due(self) -> float:
        """When :meth:`gone` may have somebody; infinity if there is nobody."""
        return self._look_at

    def _trim(self, kept: Peer) -> None:
        if len(self._peers) <= self._policy.most:
            return
        # Whoever makes names up over a link has that link's share for them, and pushes nobody out
        # who came over another, is linked, or was heard again before. A newcomer over the same link
        # has the time in which that share is filled once to be heard again: of those who were heard
        # once whoever was heard longest ago goes.
        shares = Counter(peer.via for peer in self._peers.values() if not peer.links)

        def dispensable(peer: Peer) -> tuple[bool, int, bool, bool, bool, float]:
            age = peer.met if peer.again else -peer.heard
            share = shares[peer.via]
            return (not peer.links, share, not peer.pinned, not peer.near, not peer.again, age)

        victim = max((one for one in self._peers.values() if one is not kept), key=dispensable)
        del self._peers[victim.peer_id]
        for link in victim.links:
            self._by_link.pop(link, None)
            self._proved.discard(link)


class AnnounceTimes:
    """When this node announces itself: often while alone, rarely among others."""

    __slots__ = ("_last", "_next", "_policy", "_rng")

    def __init__(self, policy: PeersPolicy, rng: Random) -> None:
        self._policy: Final = policy
        self._rng: Final = rng
        self._last: float | None = None
        self._next = 0.0

    @property
    def next_due(self) -> float:
        """When the next one is due."""
        return self._next

    def due(self, now: float, links: int) -> bool:
        """Whether one is to be made now; if so, when the next follows is drawn."""
        if now < self._next:
            return False
        self._last = now
        connected = self._policy.connected_s
        self._next = now + (self._rng.uniform(*connected) if links else self._policy.isolated_s)
        return True

    def again(self, now: float) -> bool:
        """Whether the last one is young enough for somebody new."""
        return self._last is not None and now - self._last <= self._policy.again_s

    def soon(self, now: float) -> None:
        """Make the next one now: what it says has changed, or somebody new is there."""
        self._next = min(self._next, now)
