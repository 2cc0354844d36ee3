"""Questions and answers of gossip sync, as packets."""

from __future__ import annotations

from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.sync import SyncRequest

__all__ = ["Syncing"]


class Syncing:
    """Asks neighbours, and answers them. A question goes one hop, whatever TTL it claims."""

    __slots__ = ("_station",)

    def __init__(self, station: Station) -> None:
        self._station: Final = station

    def due(self, now: float) -> None:
        """Ask the neighbours whose turn it is."""
        station = self._station
        links, short = station.gossip.due(now, station.ours)
        if links:
            payload = station.gossip.question(now).encode()
            for link in links:
                station.ask(payload, link, now)
                if station.knows_prekeys(link) and station.gossip.wants_prekeys(link, now):
                    station.ask(station.gossip.question_of_prekeys(now).encode(), link, now)
        for link, question in short.items():
            # Only nodes of our sort are asked so, which want no signature and no name for it.
            made = station.make(Kind.REQUEST_SYNC, question.encode(), now, ttl=0, signed=False)
            station.outbound.hand(made, link)

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Answer a neighbour."""
        try:
            request = SyncRequest.decode(packet.payload)
        except Malformed:
            return Drop.CONTENT
        outbound = self._station.outbound
        answers = self._station.gossip.answer(link, request, now, outbound.room(link))
        outbound.answer(answers, link)
        return None
