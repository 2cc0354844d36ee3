"""Ping and pong: whether a peer is there, and over how many links.

Neither is signed; a pong counts only if it has the nonce of a ping that went to that peer. Pongs
are few for each link, so that nobody lets a node shout for him.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.news import Trace, Traced
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import MAX_TTL, Packet
from fog_compute.p2p.bitchat.wire.ping import NONCE_BYTES, Ping

__all__ = ["Tracing"]

WAIT_S: Final = 30.0
"""For how long a pong is waited for."""

PONGS: Final = 10
"""Pings of a link that are answered within that time."""

OPEN: Final = 64
"""Pings that are waited for at once."""


class Tracing:
    """Questions of this node that wait for a pong, and those of others that were answered."""

    __slots__ = ("_answered", "_asked", "_station")

    def __init__(self, station: Station) -> None:
        self._station: Final = station
        self._asked: dict[bytes, tuple[str, bytes, float]] = {}
        self._answered: dict[Link, deque[float]] = {}

    def ask(self, command: Trace, now: float) -> None:
        """Send a ping."""
        self._asked = {nonce: one for nonce, one in self._asked.items() if now - one[2] <= WAIT_S}
        if len(self._asked) >= OPEN:
            del self._asked[next(iter(self._asked))]
        nonce = self._station.rng.randbytes(NONCE_BYTES)
        self._asked[nonce] = (command.token, command.peer_id, now)
        self._send(Kind.PING, nonce, command.peer_id, now)

    def down(self, link: Link) -> None:
        """A link is over."""
        self._answered.pop(link, None)

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Take a ping or a pong for this node."""
        try:
            ping = Ping.decode(packet.payload)
        except Malformed:
            return Drop.CONTENT
        if packet.kind == Kind.PING:
            times = self._answered.setdefault(link, deque())
            while times and now - times[0] > WAIT_S:
                times.popleft()
            if len(times) >= PONGS:
                return Drop.TOO_MANY
            times.append(now)
            self._send(Kind.PONG, ping.nonce, packet.sender, now)
            return None
        token, peer_id, asked = self._asked.get(ping.nonce, ("", b"", 0.0))
        hops = ping.hops(packet.ttl)
        if peer_id != packet.sender or now - asked > WAIT_S or hops is None:
            return Drop.UNASKED
        del self._asked[ping.nonce]
        self._station.tell(Traced(token, peer_id, hops, now - asked))
        return None

    def _send(self, kind: Kind, nonce: bytes, to: bytes, now: float) -> None:
        payload = Ping(nonce, MAX_TTL).encode()
        self._station.send_to(self._station.make(kind, payload, now, to=to, signed=False), now)
