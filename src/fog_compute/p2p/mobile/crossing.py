"""Which packets go from one island to another: decisions alone.

A radio's neighbours hear everything; between islands less is worth its way. What crosses is what is
said to all, and what is for a peer who was heard from the other side. What is old does not cross,
so that two islands that meet again do not pour their past into each other.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.mobile.bundles import LONGEST_PACKET

__all__ = ["Crossing", "CrossingPolicy", "Kept"]

CROSSES: Final = frozenset(
    {
        Kind.ANNOUNCE,
        Kind.MESSAGE,
        Kind.LEAVE,
        Kind.COURIER_ENVELOPE,
        Kind.NOISE_HANDSHAKE,
        Kind.NOISE_ENCRYPTED,
        Kind.FRAGMENT,
        Kind.REQUEST_SYNC,
        Kind.FILE_TRANSFER,
        Kind.PREKEY_BUNDLE,
        Kind.GROUP_MESSAGE,
        Kind.PING,
        Kind.PONG,
    }
)
"""Live voice would come too late, boards and carriers of other networks have ways of their own."""


class Kept(enum.StrEnum):
    """Why a packet does not cross: labels of a counter."""

    KIND = "kind"
    """Its kind stays on its island."""
    LONG = "long"
    """It is too long; programs send such things in fragments."""
    OLD = "old"
    """It was made too long ago."""
    NOT_THERE = "not-there"
    """It is for somebody who was not heard from the other side."""
    OFTEN = "often"
    """Its sender announced the same a moment ago."""


@dataclass(frozen=True, slots=True)
class CrossingPolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        fresh_s: age up to which a packet crosses, by its sender's clock.
        announce_s: between two announces of a peer that say the same;
        changed_s: and between two that do not.
        there_s: for how long a peer who was heard from the other side counts as there.
        peers: that are remembered of the other side, and of this.
    """

    fresh_s: float = 110.0
    announce_s: float = 20.0
    changed_s: float = 5.0
    there_s: float = 90.0
    peers: int = 2_000


class Crossing:
    """The way to one other island."""

    __slots__ = ("_announced", "_policy", "_there")

    def __init__(self, policy: CrossingPolicy) -> None:
        self._policy: Final = policy
        self._there: OrderedDict[bytes, float] = OrderedDict()
        self._announced: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def there(self, peer_id: bytes, now: float) -> bool:
        """Whether a peer was heard from the other side of late."""
        at = self._there.get(peer_id)
        return at is not None and now - at <= self._policy.there_s

    def leaves(self, packet: Packet, now: float) -> Kept | None:
        """Why a packet of this island is not sent over; None if it is."""
        kept = self._unfit(packet, now)
        if kept is not None:
            return kept
        if packet.kind == Kind.ANNOUNCE:
            return self._often(packet, now)
        link_alone = packet.kind == Kind.REQUEST_SYNC
        if packet.directed and not link_alone and not self.there(packet.recipient or b"", now):
            return Kept.NOT_THERE
        return None

    def arrives(self, packet: Packet, now: float) -> Kept | None:
        """Why a packet of the other island is not let in; None if it is, and its sender noted."""
        kept = self._unfit(packet, now)
        if kept is None:
            if packet.kind == Kind.LEAVE:
                self._there.pop(packet.sender, None)
            else:
                self._there[packet.sender] = now
                self._there.move_to_end(packet.sender)
                if len(self._there) > self._policy.peers:
                    self._there.popitem(last=False)
        return kept

    def forget(self) -> None:
        """The other island is out of reach: nobody is there any more."""
        self._there.clear()
        self._announced.clear()

    def _unfit(self, packet: Packet, now: float) -> Kept | None:
        if packet.kind not in CROSSES:
            return Kept.KIND
        if len(packet.wire) > LONGEST_PACKET:
            return Kept.LONG
        if now - packet.timestamp / 1000 > self._policy.fresh_s:
            return Kept.OLD
        return None

    def _often(self, packet: Packet, now: float) -> Kept | None:
        last = self._announced.get(packet.sender)
        if last is not None:
            # An answer to gossip is asked for by somebody who lacks it.
            same = last[1] == packet.payload and not packet.sync_answer
            if now - last[0] < (self._policy.announce_s if same else self._policy.changed_s):
                return Kept.OFTEN
        self._announced[packet.sender] = (now, packet.payload)
        self._announced.move_to_end(packet.sender)
        if len(self._announced) > self._policy.peers:
            self._announced.popitem(last=False)
        return None
