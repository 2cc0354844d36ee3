"""Which transports may carry a message to somebody, the best first: a function of what is so now.

The order is: a Bluetooth link or session that is open, the mesh that heard them a moment ago, the
mixnet, somebody who may meet them; and if there is none of these, the outbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Reach, TransportCapabilities, TransportType
from fog_compute.units import KIB

__all__ = ["candidates", "why_none"]

BULK_BYTES: Final = 64 * KIB
"""From here on the mixnet goes before Bluetooth, where both can: there it is minutes of air."""

AWAY: Final = "they are not near"
NO_ADDRESS: Final = "no address of theirs is known at this level: add their card"

_LATENCY: Final = {"low": 0, "medium": 1, "high": 2}


def candidates(
    message: DecentralizedMessage,
    size: int,
    reaches: Mapping[TransportType, Reach],
    capabilities: Mapping[TransportType, TransportCapabilities],
) -> list[TransportType]:
    """The transports that may be asked to carry a message to one person, the best first.

    Args:
        message: what is to be carried; its body is not looked at.
        size: bytes of its body.
        reaches: how each transport reaches that person.
        capabilities: what each transport can do now.
    """
    able = [
        kind
        for kind, can in capabilities.items()
        if _refusal(message, size, reaches.get(kind, Reach.NONE), can) is None
    ]
    return sorted(able, key=lambda kind: _rank(size, reaches[kind], capabilities[kind]))


def why_none(
    message: DecentralizedMessage,
    size: int,
    reaches: Mapping[TransportType, Reach],
    capabilities: Mapping[TransportType, TransportCapabilities],
) -> str:
    """One line that says of each transport why it does not carry the message."""
    if not capabilities:
        return "no transport carries it"
    said = (
        f"{kind.value}: {_refusal(message, size, reaches.get(kind, Reach.NONE), can)}"
        for kind, can in capabilities.items()
    )
    return "; ".join(said)


def _refusal(
    message: DecentralizedMessage, size: int, reach: Reach, can: TransportCapabilities
) -> str | None:
    if can.unavailable_because is not None:
        return can.unavailable_because
    if message.requires_privacy and not can.metadata_private:
        return "others would see who writes to whom"
    if size > can.max_message_size:
        return f"it takes {can.max_message_size} bytes at most"
    if reach is Reach.NONE:
        # What works without internet is for who is near; all else goes to an address.
        return AWAY if can.supports_offline else NO_ADDRESS
    if reach is Reach.COURIER and not message.offline_capable:
        return "they are not there, and the message does not wait"
    return None


def _rank(size: int, reach: Reach, can: TransportCapabilities) -> tuple[bool, int, bool, int]:
    """Lower goes first."""
    slow = size > BULK_BYTES and can.lossy
    return (slow, -reach, can.metered, _LATENCY[can.latency_class])
