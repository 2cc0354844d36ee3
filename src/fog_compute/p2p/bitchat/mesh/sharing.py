"""Files for all who are near, and messages to groups, which this node passes on without reading.

A file is signed as a public message is. A message to a group is sealed and signed inside
(``groups.py``): who has the group's key finds out by whom it is; here it is only carried.

Source: ``BLEFileTransferHandler.swift``, ``BLEService.swift`` of the app.
"""

from __future__ import annotations

from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.news import (
    FileHeard,
    GroupHeard,
    SayGroup,
    Sent,
    SentState,
    ShareFile,
)
from fog_compute.p2p.bitchat.mesh.outbound import flood_key
from fog_compute.p2p.bitchat.mesh.seen import Shown
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.fragments import MANY_TAKE
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.signing import verify

__all__ = ["Sharing"]


class Sharing:
    """Public files and messages to groups, sent and heard."""

    __slots__ = ("_shown_files", "_shown_groups", "_station")

    def __init__(self, station: Station) -> None:
        self._station: Final = station
        # Nobody signs for a message to a group here: whoever makes them up hides no file.
        self._shown_files: Final = Shown()
        self._shown_groups: Final = Shown()

    def share(self, command: ShareFile, now: float) -> None:
        """Give a file to all who are near."""
        try:
            payload = command.file.encode() + command.more
        except Malformed as malformed:
            self._fail(command.token, str(malformed))
            return
        if len(payload) > MANY_TAKE - 256 and not self._all_take_long_sets():
            self._fail(command.token, f"somebody near takes files up to {MANY_TAKE - 512} bytes")
            return
        self._send(command.token, Kind.FILE_TRANSFER, payload, now)

    def say_group(self, command: SayGroup, now: float) -> None:
        """Pass a sealed message to a group's members, wherever they are."""
        if not command.payload:
            self._fail(command.token, "there is nothing to say")
            return
        self._send(command.token, Kind.GROUP_MESSAGE, command.payload, now)

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:  # noqa: ARG002 - a part
        """Take a file, or a message to a group."""
        if packet.kind == Kind.GROUP_MESSAGE:
            return self._take_group(packet)
        station = self._station
        peer = station.peers.get(packet.sender)
        if peer is None:
            return Drop.UNKNOWN_SENDER
        if not verify(packet, peer.signing_key):
            return Drop.SIGNATURE
        try:
            file, others = File.read(packet.payload)
        except Malformed:
            return Drop.CONTENT
        name = flood_key(packet).hex()
        if not self._shown_files.admit(name, packet.timestamp):
            return Drop.SHOWN
        station.tell(
            FileHeard(packet.sender, name, file, packet.timestamp, packet.directed, others)
        )
        return None

    def _take_group(self, packet: Packet) -> Drop | None:
        name = flood_key(packet).hex()
        if not packet.payload:
            return Drop.CONTENT
        if not self._shown_groups.admit(name, packet.timestamp):
            return Drop.SHOWN
        self._station.tell(GroupHeard(packet.payload, packet.timestamp))
        return None

    def _send(self, token: str, kind: Kind, payload: bytes, now: float) -> None:
        station = self._station
        if station.outbound.full:
            self._fail(token, "too much is under way already")
            return
        large = kind == Kind.FILE_TRANSFER
        try:
            made = station.make(kind, payload, now, signed=large, version=2 if large else 1)
        except Malformed as malformed:
            self._fail(token, str(malformed))
            return
        name = flood_key(made).hex()
        shown = self._shown_files if large else self._shown_groups
        shown.admit(name, made.timestamp)
        station.send_all(made, now, token)
        state = SentState.ACCEPTED if station.outbound.links else SentState.QUEUED
        station.tell(Sent(token, state, name))

    def _fail(self, token: str, reason: str) -> None:
        self._station.tell(Sent(token, SentState.FAILED, reason=reason))

    def _all_take_long_sets(self) -> bool:
        return all(peer.is_ours for peer in self._station.peers if peer.near)
