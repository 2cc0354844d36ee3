"""What a transport is to the router: the interface, what it can do, and what it tells.

A transport names people by fingerprint, and finds what it needs for it by itself: a peer id on
Bluetooth, an address in the mixnet. It promises little: what it accepted may be lost, come twice,
or out of order. All that is mended above it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from fog_compute.errors import FogError
from fog_compute.p2p.core.messages import DecentralizedMessage

__all__ = [
    "EVERYBODY",
    "Arrival",
    "CapabilitiesChanged",
    "Outcome",
    "OutcomeState",
    "PartLeft",
    "Reach",
    "Reachability",
    "TransportCapabilities",
    "TransportEvent",
    "TransportInterface",
    "TransportType",
    "TransportUnavailable",
]

EVERYBODY: Final = ""
"""The recipient of what goes to all who are near."""


class TransportUnavailable(FogError):
    """A transport cannot be used now; the text says why, and what to do."""


class TransportType(enum.StrEnum):
    """The transports; the value names one in tables, answers and commands."""

    BETANET_HTX = "htx"
    BITCHAT_BLE = "ble"


@dataclass(frozen=True, slots=True)
class TransportCapabilities:
    """What a transport can do; some of it changes while it runs.

    Attributes:
        supports_offline: works without internet.
        max_message_size: bytes of a body.
        supports_broadcast: one sending reaches all who are near.
        requires_pairing: people have to be introduced to the system first.
        latency_class: low is below a second, medium up to half a minute, high above.
        mtu: bytes that go at once; what is longer is cut by the transport.
        duplex: both ways at the same time.
        lossy: what was accepted may be lost without a word.
        metered: sending costs somebody something.
        link_encrypted: who listens to the link reads nothing.
        metadata_private: nobody on the way sees who writes to whom.
        unavailable_because: why it cannot be used now, and what to do; None when it can.
        limited_because: what of it cannot be used, and why; None when all can.
    """

    supports_offline: bool
    max_message_size: int
    supports_broadcast: bool
    requires_pairing: bool
    latency_class: Literal["low", "medium", "high"]
    mtu: int = 0
    duplex: bool = True
    lossy: bool = True
    metered: bool = False
    link_encrypted: bool = False
    metadata_private: bool = False
    unavailable_because: str | None = None
    limited_because: str | None = None

    @property
    def available(self) -> bool:
        """Whether it can be used now."""
        return self.unavailable_because is None


class Reach(enum.IntEnum):
    """How a transport reaches somebody, the best last."""

    NONE = 0  # it does not
    COURIER = 1  # somebody who may meet them would carry a message
    ADDRESS = 2  # it has an address; whether they are there, nobody knows
    MESH = 3  # others pass it on; they were heard within the last minute
    DIRECT = 4  # over a link, or a session that is open


class OutcomeState(enum.StrEnum):
    """What a transport says of a message that it was given."""

    ACCEPTED = "accepted"  # it went out
    QUEUED = "queued"  # it waits inside the transport: for a session, or for a courier
    STORED = "stored"  # it is on a disk that keeps it for the recipient
    FAILED = "failed"  # it did not go out


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message at a transport. *Delivered* is for the recipient to say.

    Attributes:
        message_id: of the message.
        receiver: whose copy of it: a fingerprint, or `EVERYBODY`.
        state: how far it came.
        reason: one line, of a failure; "" otherwise.
        permanent: a failure that another try on this transport does not mend.
        unanswered: no receipt will follow, as the recipient's program gives none: *accepted* is
            the last that is heard of it.
    """

    message_id: str
    receiver: str
    state: OutcomeState
    reason: str = ""
    permanent: bool = False
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that came.

    Attributes:
        transport: over which.
        message: with its sender and id; receipts come as messages of their kind.
        sender_verified: the transport has proof that ``message.sender`` sent it.
        token: what `TransportInterface.confirm` wants of it.
    """

    transport: TransportType
    message: DecentralizedMessage
    sender_verified: bool
    token: str = ""


@dataclass(frozen=True, slots=True)
class Reachability:
    """Somebody can be reached over a transport now, better, or no more."""

    transport: TransportType
    peer: str
    reach: Reach


@dataclass(frozen=True, slots=True)
class CapabilitiesChanged:
    """Ask again what the transport can do: an adapter went, a network came back."""

    transport: TransportType


@dataclass(frozen=True, slots=True)
class PartLeft:
    """Part of a long message has left; told now and then, and worth nothing afterwards.

    Attributes:
        transport: over which.
        message_id: of the message.
        receiver: of this copy, or `EVERYBODY`.
        sent: bytes of its body that have left.
        size: of how many.
    """

    transport: TransportType
    message_id: str
    receiver: str
    sent: int
    size: int


TransportEvent: TypeAlias = Arrival | Outcome | PartLeft | Reachability | CapabilitiesChanged
"""What a transport tells by itself. An outcome among them is later news of a message that `send`
answered for already."""


@runtime_checkable
class TransportInterface(Protocol):
    """A way on which messages travel. Everything runs in one event loop.

    `TransportManager` calls `initialize`, then `receive` again and again from one task, `send` and
    `broadcast` from many, and `shutdown` in the end, whatever happened before.
    """

    @property
    def type(self) -> TransportType:
        """Which transport it is."""
        ...

    async def initialize(self) -> None:
        """Begin; called again after `shutdown`.

        Raises:
            TransportUnavailable: it cannot be used now.
        """
        ...

    async def send(
        self, message: DecentralizedMessage, destination: str, *, attempt: int = 0
    ) -> Outcome:
        """Send a message to one person, and say how far it came; a failure is an outcome.

        Args:
            message: with id and sender; the same bytes whenever it is given again.
            destination: the recipient's fingerprint; also of a message to a group.
            attempt: 0, and one more whenever the message is sent again though a transport took
                it before: it is then not to be taken for the same, and may go another way.

        Raises:
            TransportUnavailable: it cannot be used now.
        """
        ...

    async def broadcast(self, message: DecentralizedMessage) -> int:
        """Send a message to all who are near, or of its group; return to how many it went at once.

        Raises:
            TransportUnavailable: it cannot be used now, or has no broadcast.
        """
        ...

    async def receive(self) -> TransportEvent:
        """Wait for what comes next. Cancelled, nothing is lost.

        Raises:
            TransportUnavailable: it cannot be used any more; it is then started anew.
        """
        ...

    async def confirm(self, arrival: Arrival) -> None:
        """The arrival is kept here: nobody on the way needs to keep it any longer."""
        ...

    async def shutdown(self) -> None:
        """End; safe to call again."""
        ...

    def get_capabilities(self) -> TransportCapabilities:
        """What it can do now; it waits for nothing, and works before `initialize`."""
        ...
