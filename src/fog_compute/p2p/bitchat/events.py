"""What happens to the mesh, and what it wants done: the records between engine and driver.

A link is one connection between two machines, named by a number that its driver makes up and never
uses again. Frames are whole packets as they travel; times are seconds on the clock of the driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = [
    "Disconnect",
    "FrameReceived",
    "FrameSent",
    "Link",
    "LinkDown",
    "LinkEvent",
    "LinkSource",
    "LinkUp",
    "SendFrame",
    "Wake",
    "WakeAt",
]

Link: TypeAlias = int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link can carry frames.

    Attributes:
        link: its name.
        mtu: bytes of the longest frame that goes over it in one piece.
        initiated: whether this side asked for it.
    """

    link: Link
    mtu: int
    initiated: bool


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A link is over; frames under way on it are lost."""

    link: Link


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame came in."""

    link: Link
    data: bytes


@dataclass(frozen=True, slots=True)
class FrameSent:
    """What became of a :class:`SendFrame`: ``ok`` if the radio took it, as far as it can tell."""

    link: Link
    token: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Wake:
    """A moment that was asked for has come."""


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send a frame, and answer with :class:`FrameSent` that has the same token."""

    link: Link
    data: bytes
    token: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Give :class:`Wake` at this time; a later one of these takes an earlier one's place."""

    at: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """End a link, whose other side breaks the rules."""

    link: Link
    reason: str


LinkEvent: TypeAlias = LinkUp | LinkDown | FrameReceived | FrameSent | Wake


class LinkSource(Protocol):
    """Something that has links of a kind; it tells what happens on them to who made it."""

    async def start(self) -> None:
        """Begin to have links.

        Raises:
            TransportUnavailable: it cannot; the text says why.
        """
        ...

    async def stop(self) -> None:
        """End all links; safe to call again."""
        ...

    def owns(self, link: Link) -> bool:
        """Whether a link is, or was, one of these."""
        ...

    def send(self, frame: SendFrame) -> None:
        """Send a frame when its turn comes; :class:`FrameSent` follows, whatever happens."""
        ...

    def disconnect(self, link: Link, leave_s: float = 0.0) -> None:
        """End a link, and leave its other side alone for so many seconds."""
        ...
