"""What the router is told, and what it asks to be done.

Actions are carried out in their order. What stands after a `Keep` waits until that is committed;
with that alone, a crash between any two of them loses nothing and shows nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fog_compute.p2p.core.book import BookChange
from fog_compute.p2p.core.inbox import Standing
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.outbox import Key
from fog_compute.p2p.core.transport import (
    Arrival,
    Outcome,
    PartLeft,
    Reachability,
    TransportCapabilities,
    TransportType,
)

__all__ = [
    "Action",
    "Answered",
    "CarryReceipt",
    "Confirm",
    "Event",
    "Keep",
    "News",
    "Offer",
    "OutcomeTold",
    "Progress",
    "StandingChanged",
    "TransportChanged",
    "Wake",
    "WakeAt",
]


@dataclass(frozen=True, slots=True)
class TransportChanged:
    """A transport came, can do something else, or went: then ``capabilities`` is None."""

    transport: TransportType
    capabilities: TransportCapabilities | None


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of an `Offer`."""

    offer: Offer
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutcomeTold:
    """What came of a `CarryReceipt`; or a transport says more of what it answered for before."""

    transport: TransportType
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """Somebody is known now, or blocked, or neither."""

    peer: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Wake:
    """The time of a `WakeAt` has come; one too early or too many does no harm."""


Event: TypeAlias = (
    Arrival
    | OutcomeTold
    | PartLeft
    | Reachability
    | TransportChanged
    | Answered
    | StandingChanged
    | Wake
)


@dataclass(frozen=True, slots=True)
class Keep:
    """Commit these, all of them or none, before anything that follows."""

    changes: tuple[BookChange, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """Ask a transport to carry a message of ours, and tell what came of it (`Answered`).

    Attributes:
        transport: which.
        key: the message and its recipient; `EVERYBODY` means to broadcast it.
        attempt: see `TransportInterface.send`.
        number: of this offer, so that its answer is known again.
    """

    transport: TransportType
    key: Key
    attempt: int
    number: int


@dataclass(frozen=True, slots=True)
class CarryReceipt:
    """Ask a transport to carry a receipt, and tell what came of it (`OutcomeTold`)."""

    transport: TransportType
    message: DecentralizedMessage


@dataclass(frozen=True, slots=True)
class Confirm:
    """Tell the transport that an arrival is kept, or not wanted."""

    arrival: Arrival


@dataclass(frozen=True, slots=True)
class News:
    """There is more in the log: messages of others up to this position."""

    position: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A message of ours came to another state with one recipient, or some of it left.

    Attributes:
        id: of the message.
        receiver: of this copy.
        state: the one in which it is.
        transport: over which it goes, or went.
        reason: one line, of what failed.
        sent: bytes that have left, of a long message on its way;
        size: of how many. 0 where it is the state that is new.
    """

    id: str
    receiver: str
    state: DeliveryState
    transport: TransportType | None
    reason: str
    sent: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `Wake` at this time; it replaces the one before."""

    at: float


Action: TypeAlias = Keep | Offer | CarryReceipt | Confirm | News | Progress | WakeAt
