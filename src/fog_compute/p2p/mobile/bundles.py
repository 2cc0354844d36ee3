"""What two bridges say to each other: that they are there, packets, and that they go.

=====  ==========================================================================================
bytes  field
=====  ==========================================================================================
1      version, 1
1      what it is, :class:`Saying`
..     of ``packets``: each packet with its length before it, 2 bytes, big-endian
=====  ==========================================================================================

It is the body of a message over the mixnet, sealed for the other bridge and signed by this one.
The packets in it are as they are on a link, padding left away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fog_compute.errors import FogError
from fog_compute.units import KIB

__all__ = [
    "LONGEST_PACKET",
    "MAX_BUNDLE",
    "MAX_PACKETS",
    "MEDIA_TYPE",
    "Bundle",
    "BundleInvalid",
    "Saying",
]

MEDIA_TYPE: Final = "application/x-fog-bridge"
"""By which a message of a bridge is told from others."""

VERSION: Final = 1

LONGEST_PACKET: Final = 4 * KIB
"""Bytes; what is longer travels in fragments on a radio, and so here."""

MAX_PACKETS: Final = 64
MAX_BUNDLE: Final = 2 + 16 * KIB
"""Bytes of one message: a few packets of the mixnet."""

HEAD: Final = 2
LENGTH: Final = 2


class BundleInvalid(FogError, ValueError):
    """What a bridge sent is nothing that a bridge says."""


class Saying(IntEnum):
    """The kinds."""

    HELLO = 1
    """I would join your island."""
    HEARD = 2
    """So would I: I have heard that you would."""
    PACKETS = 3
    """Here is what was heard on mine."""
    BYE = 4
    """I go."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One message between two bridges.

    Attributes:
        saying: what it is.
        packets: of ``PACKETS``, at least one; of everything else, none.
    """

    saying: Saying
    packets: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Its bytes."""
        parts = [bytes((VERSION, self.saying))]
        for packet in self.packets:
            parts += (len(packet).to_bytes(LENGTH), packet)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Bundle:
        """Read what another bridge sent.

        Raises:
            BundleInvalid: it is none, or larger than it may be.
        """
        if not HEAD <= len(data) <= MAX_BUNDLE:
            raise BundleInvalid(f"a bundle has {HEAD} to {MAX_BUNDLE} bytes, and not {len(data)}")
        if data[0] != VERSION:
            raise BundleInvalid("a bundle of a version that is not known")
        try:
            saying = Saying(data[1])
        except ValueError:
            raise BundleInvalid("a bundle of a kind that is not known") from None
        packets = _packets(data)
        if bool(packets) != (saying is Saying.PACKETS):
            raise BundleInvalid("a bundle has packets where its kind says so, and only there")
        return cls(saying, packets)


def room_for(queued: Sequence[int]) -> int:
    """How many packets of these lengths fit into one bundle, from the first on."""
    size = HEAD
    for count, length in enumerate(queued[:MAX_PACKETS]):
        size += LENGTH + length
        if size > MAX_BUNDLE:
            return count
    return min(len(queued), MAX_PACKETS)


def _packets(data: bytes) -> tuple[bytes, ...]:
    packets: list[bytes] = []
    at = HEAD
    while at < len(data):
        length = int.from_bytes(data[at : at + LENGTH])
        at += LENGTH
        if not 0 < length <= LONGEST_PACKET or at + length > len(data):
            raise BundleInvalid("a packet in a bundle is too long, or cut off")
        packets.append(data[at : at + length])
        at += length
    if len(packets) > MAX_PACKETS:
        raise BundleInvalid(f"a bundle has at most {MAX_PACKETS} packets")
    return tuple(packets)
