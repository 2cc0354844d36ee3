"""What is said to all who are near: signed plain text, by somebody who was announced.

A message of somebody who was not announced yet waits a little: as a rule the announce is on its
way, or the neighbour has it, and is asked. It is neither shown nor passed on before.

Source: ``BLEPublicMessageHandler.swift``, ``MeshMessageIdentity.swift`` of the app.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.news import SayAll, Sent, SentState, TextHeard
from fog_compute.p2p.bitchat.mesh.seen import Shown
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode
from fog_compute.p2p.bitchat.wire.signing import verify
from fog_compute.p2p.core.messages import public_text_id

__all__ = ["MAX_PUBLIC_BYTES", "Parked", "PublicTalk"]

MAX_PUBLIC_BYTES: Final = 16_000
"""UTF-8 bytes of one public message: some 35 fragments."""

FRESH_S: Final = 60.0
"""Age up to which a message is flooded with the time at which it was said: others refuse one that
is older than two minutes, unless they asked for it."""

ASKED_S: Final = 5 * 3600.0
"""Age up to which it keeps that time, and with it its id, and waits to be asked for: an answer may
be 6 h old."""


class Parked:
    """Packets whose sender was not announced yet, for a little while."""

    __slots__ = ("_each", "_keep_s", "_packets", "_total")

    def __init__(self, keep_s: float = 20.0, each: int = 32, total: int = 256) -> None:
        """Keep up to ``total`` packets, of a link up to ``each``, for so many seconds."""
        self._keep_s = keep_s
        self._each = each
        self._total = total
        self._packets: deque[tuple[float, Link, Packet]] = deque()

    def __len__(self) -> int:
        return len(self._packets)

    def park(self, packet: Packet, link: Link, now: float) -> bool:
        """Let a packet wait; False if there is no room for more of this link."""
        while self._packets and now - self._packets[0][0] > self._keep_s:
            self._packets.popleft()
        of_link = [one for _, by, one in self._packets if by == link]
        if len(of_link) >= self._each or len(self._packets) >= self._total:
            return False
        if any(one.wire == packet.wire for one in of_link):
            return True
        self._packets.append((now, link, packet.bare))
        return True

    def take(self, sender: bytes, now: float) -> list[tuple[Link, Packet]]:
        """What waited for this sender to be announced."""
        found = [
            (link, decode(packet.wire))
            for at, link, packet in self._packets
            if packet.sender == sender and now - at <= self._keep_s
        ]
        if found:
            self._packets = deque(one for one in self._packets if one[2].sender != sender)
        return found

    def down(self, link: Link) -> None:
        """A link is over, and what came over it is not waited for."""
        self._packets = deque(one for one in self._packets if one[1] != link)


class PublicTalk:
    """Public messages, said and heard."""

    __slots__ = ("_shown", "_station", "parked")

    def __init__(self, station: Station) -> None:
        self._station: Final = station
        self._shown: Final = Shown()
        self.parked: Final = Parked()

    def say(self, command: SayAll, now: float) -> None:
        """Say something to all."""
        station, data = self._station, command.text.encode()
        if not 0 < len(data) <= MAX_PUBLIC_BYTES:
            reason = f"a public message has 1 to {MAX_PUBLIC_BYTES} bytes"
            station.tell(Sent(command.token, SentState.FAILED, reason=reason))
            return
        try:
            sent_ms = command.sent_ms
            age = 0.0 if sent_ms is None else now - sent_ms / 1000
            if not 0 <= age <= ASKED_S:
                sent_ms, age = None, 0.0
            made = station.make(Kind.MESSAGE, data, now, sent_ms=sent_ms)
        except Malformed as malformed:
            station.tell(Sent(command.token, SentState.FAILED, reason=str(malformed)))
            return
        name = public_text_id(made.sender.hex(), made.timestamp, command.text)
        self._shown.admit(name, made.timestamp)
        if age <= FRESH_S:
            station.send_all(made, now)
        else:
            station.gossip.keep(made, now)
        state = SentState.ACCEPTED if station.outbound.links else SentState.QUEUED
        station.tell(Sent(command.token, state, name))

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Take what somebody else said."""
        station = self._station
        peer = station.peers.get(packet.sender)
        if peer is None:
            if not self.parked.park(packet, link, now):
                return Drop.UNKNOWN_SENDER
            if packet.sync_answer:
                station.gossip.put_off(packet, now)
            else:
                station.gossip.hurry(link, now)
            return Drop.PARKED
        if not verify(packet, peer.signing_key):
            return Drop.SIGNATURE
        try:
            text = packet.payload.decode()
        except UnicodeDecodeError:
            return Drop.CONTENT
        name = public_text_id(packet.sender.hex(), packet.timestamp, text)
        if not self._shown.admit(name, packet.timestamp):
            return Drop.SHOWN
        if not packet.sync_answer:
            station.peers.heard(packet.sender, now)
        station.tell(TextHeard(packet.sender, name, text, packet.timestamp))
        return None
