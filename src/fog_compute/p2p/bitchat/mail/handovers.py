"""What is handed over when people meet, to whom, and why: the records of a node's mail."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope

__all__ = ["Handover", "Nearness", "OwnName", "Purpose"]

OwnName = tuple[str, bytes]
"""A message of ours to one person: its id, and the recipient's Noise key. A message to a group has
one id for all its members."""


class Purpose(enum.Enum):
    """Why an envelope is handed to somebody."""

    DELIVER = "deliver"
    """It is for that person, who is at the other end of a link."""
    SEND = "send"
    """It is for that person, who is further away: flood it."""
    SPRAY = "spray"
    """That person carries it, too, from now on."""
    POST = "post"
    """That person is to carry mail of our own."""


class Nearness(enum.Enum):
    """How near somebody is who announced themselves."""

    DISTANT = "distant"
    """Others passed the announce on."""
    LINKED = "linked"
    """It came over a link of which nobody else can tell whose it is: somebody may have passed it on
    untouched."""
    PROVED = "proved"
    """A session with that person came over that link, too."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Give an envelope to somebody, in a signed packet to that peer.

    Attributes:
        to: the Noise key of whom it is given to.
        envelope: what.
        purpose: why; all but ``SEND`` go over that peer's own link and nowhere else.
        ticket: what `Couriers.sent` names it by.
        own: the message of ours in it; None if it is another's.
    """

    to: bytes
    envelope: CourierEnvelope
    purpose: Purpose
    ticket: int
    own: OwnName | None = None
