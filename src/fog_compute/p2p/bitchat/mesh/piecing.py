"""Fragments: pieces are passed on as they come, and put together here if they are for this node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.fragments import Assembly, AssemblyPolicy
from fog_compute.p2p.bitchat.wire.packet import Packet

__all__ = ["Piecing"]


class Piecing:
    """What arrives in pieces; ``whole`` is called with each packet that came together."""

    __slots__ = ("_assembly", "_look_at", "_pause", "_station", "_whole")

    def __init__(
        self,
        station: Station,
        whole: Callable[[Packet, Link, float], None],
        policy: AssemblyPolicy | None = None,
    ) -> None:
        policy = policy or AssemblyPolicy()
        self._station: Final = station
        self._assembly: Final = Assembly(policy)
        self._whole = whole
        self._pause: Final = policy.stalled_s
        self._look_at: float | None = None

    @property
    def next_due(self) -> float | None:
        """When pieces may have failed to come for long."""
        return self._look_at

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Take a piece."""
        try:
            whole = self._assembly.take(packet, link, now)
        except Malformed:
            return Drop.CONTENT
        if self._look_at is None and len(self._assembly):
            self._look_at = now + self._pause
        if whole is not None:
            self._station.guard.unpacked(link, whole)
            # Pieces that waited with a neighbour make a packet that did.
            answer = whole.sync_answer or packet.sync_answer
            self._whole(msgspec.structs.replace(whole, sync_answer=answer), link, now)
        return None

    def due(self, now: float) -> None:
        """Ask all neighbours for pieces that failed to come."""
        if self._look_at is None or now < self._look_at:
            return
        station = self._station
        stalled = self._assembly.stalled(now)
        self._look_at = now + self._pause if len(self._assembly) else None
        if not stalled:
            return
        payload = station.gossip.missing(stalled, now).encode()
        for link in station.outbound.links:
            if station.gossip.may_ask(link, now):
                station.ask(payload, link, now)
