"""Frames out of what a link brings, where a packet came in several writes or notifications.

Nearly always one write is one packet. A phone whose side of the link takes less at once sends the
rest of a long packet after it; where that ends, the packet's own length says (facts:
`NotificationStreamAssembler.swift`). One of these belongs to one link, and holds at most one
packet.
"""

from __future__ import annotations

from typing import Final

from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.packet import SHORTEST, wire_length
from fog_compute.units import KIB

__all__ = ["FrameStream"]

LARGEST: Final = 64 * KIB
"""Bytes of a packet that is put together here; what is longer comes in fragments."""

STALL_S: Final = 2.0
"""Seconds after the last piece when a packet that is not complete is given up."""


class FrameStream:
    """The pieces of one link.

    Attributes:
        given_up: packets whose end never came.
    """

    __slots__ = ("_at", "_held", "_wanted", "given_up")

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 0
        self._at = 0.0
        self.given_up = 0

    def take(self, data: bytes, now: float) -> list[bytes]:
        """Return the frames that are complete with this piece; usually the piece itself.

        What is no packet is returned, too: who reads it counts it.

        Args:
            data: of one write or notification.
            now: seconds, of a clock that never goes back.
        """
        if self._held:
            if now - self._at <= STALL_S:
                self._held += data
                self._at = now
                if len(self._held) < self._wanted:
                    return []
                data = bytes(self._held)
            else:
                self.given_up += 1
            self._held.clear()
        frames: list[bytes] = []
        while data:
            length = self._length(data)
            if length > len(data):
                self._held += data
                self._wanted = length
                self._at = now
                break
            rest = data[length:]
            if len(rest) < SHORTEST or rest[0] not in (1, 2):
                frames.append(data)  # what follows is padding
                break
            frames.append(data[:length])
            data = rest
        return frames

    @staticmethod
    def _length(data: bytes) -> int:
        """Bytes of the packet that begins here; of the data, if it is none or too long."""
        if len(data) < SHORTEST:
            return len(data)
        try:
            length = wire_length(data)
        except Malformed:
            return len(data)
        return length if length is not None and length <= LARGEST else len(data)
