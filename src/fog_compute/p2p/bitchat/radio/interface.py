"""What a Bluetooth driver offers: seven verbs, a stream of events, and a reason where it has none.

A driver plays both parts at once. As *peripheral* it advertises BitChat's service and takes
connections; as *central* it scans for that service and connects. A connection in either direction
becomes a link once both sides can send; from then on a frame is one write or one notification of
the service's only characteristic (facts: `BLEService.swift`, `TransportConfig.swift`).

A driver decides nothing: whom to connect to, when to scan and what a frame means is for others.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from fog_compute.errors import FogError
from fog_compute.p2p.bitchat.events import Link

__all__ = [
    "ATT_OVERHEAD",
    "CHARACTERISTIC",
    "EXTRA",
    "MTU",
    "SERVICE",
    "SHORTEST_FRAME",
    "Back",
    "Closed",
    "ConnectFailed",
    "EventQueue",
    "Found",
    "Gone",
    "Link",
    "Opened",
    "Radio",
    "RadioEvent",
    "RadioState",
    "RadioUnavailable",
    "Received",
    "frame_limit",
]

SERVICE: Final = "f47b5e2d-4a9e-4c5a-9b3f-8e1d2c3a4b5c"
"""UUID of BitChat's GATT service; it is all that an advertisement has."""

CHARACTERISTIC: Final = "a1b2c3d4-e5f6-4a5b-8c9d-0e1f2a3b4c5d"
"""UUID of its characteristic: read, write, write without response, notify; nothing is paired."""

MTU: Final = 517
"""ATT MTU to ask for, the most that there is."""

ATT_OVERHEAD: Final = 3
"""Bytes of an ATT write or notification before the value."""

LONGEST_VALUE: Final = 512
"""Bytes of a characteristic's value, whatever the MTU: longer ones vanish."""

SHORTEST_FRAME: Final = 64
"""A link that carries less is of no use: a fragment of a packet has up to 60 bytes of headers."""

EXTRA: Final = "pip install 'fog-compute[bluetooth]'"


class RadioUnavailable(FogError):
    """There is no Bluetooth to use now; the text says why, and what to do."""


class ConnectFailed(FogError):
    """A connection did not become a link."""


@dataclass(frozen=True, slots=True)
class RadioState:
    """What a driver can do now.

    Attributes:
        central: it can scan and connect.
        peripheral: it can advertise and be connected to.
        unavailable_because: why it can do neither, and what to do; None when it can do one.
        limited_because: why it can do one alone; None otherwise.
    """

    central: bool
    peripheral: bool
    unavailable_because: str | None = None
    limited_because: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An advertisement of the service was heard.

    Attributes:
        address: what `Radio.connect` takes; it changes every quarter of an hour on a phone.
        rssi: signal strength in dBm; 0 where the driver has none.
    """

    address: str
    rssi: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A link can carry frames both ways.

    Attributes:
        link: a number that no link had before.
        address: of the other side; "" where the driver is not told.
        mtu: bytes of the longest frame.
        initiated: whether this side connected.
    """

    link: Link
    address: str
    mtu: int
    initiated: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A link is over.

    Attributes:
        link: which.
        reason: one line, for a log.
    """

    link: Link
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A write or a notification came in over a link."""

    link: Link
    data: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """The adapter cannot be used any more; all its links were closed before.

    Attributes:
        reason: why, and what to do; where that changes, it is told again.
        final: the driver does not look for it; to start it anew does.
    """

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Back:
    """An adapter can be used (again); it neither scans nor advertises yet."""


RadioEvent: TypeAlias = Found | Opened | Closed | Received | Gone | Back


class Radio(Protocol):
    """One adapter, or two of which one advertises. Everything runs in one event loop."""

    async def start(self) -> None:
        """Take the adapter; `Back` says so. What it wants is called again after a failure.

        Raises:
            RadioUnavailable: there is none.
        """
        ...

    async def stop(self) -> None:
        """End links, scanning and advertising, and let go of the adapter; safe to call again."""
        ...

    async def scan(self, on: bool) -> None:
        """Look for the service, and tell with `Found`; or stop doing so.

        Raises:
            RadioUnavailable: the adapter refuses.
        """
        ...

    async def advertise(self, on: bool) -> None:
        """Offer the service, so that others find it and connect; or stop doing so.

        Links that are open stay. A driver whose adapter stops advertising with each connection
        starts again by itself.

        Raises:
            RadioUnavailable: the adapter refuses.
        """
        ...

    async def connect(self, address: str) -> None:
        """Connect, subscribe, and tell with `Opened`. One attempt runs at a time.

        Cancelled, it leaves no half-made connection behind.

        Raises:
            ConnectFailed: that did not work.
        """
        ...

    async def disconnect(self, link: Link) -> None:
        """End a link; `Closed` follows. One that is over already is no error."""
        ...

    async def send(self, link: Link, data: bytes) -> bool:
        """Send a frame, at most as long as the link's MTU; return once the next one may follow.

        True says that the radio took it, not that it arrived. False: the link is over, or the frame
        is too long for it.
        """
        ...

    async def next(self) -> RadioEvent:
        """Wait for what happens next. Cancelled, nothing is lost."""
        ...

    def state(self) -> RadioState:
        """What can be done now; it waits for nothing, and works before `start`."""
        ...


def frame_limit(att_mtu: int) -> int:
    """Bytes of the longest frame on a connection with this ATT MTU."""
    return min(att_mtu - ATT_OVERHEAD, LONGEST_VALUE)


class EventQueue:
    """Events on their way to whoever reads them, and numbers for links.

    What strangers cause is bounded: of advertisements only the newest of each address is kept, and
    frames beyond the bound are dropped and counted.

    Attributes:
        dropped: frames and advertisements for which there was no room.
    """

    __slots__ = ("_events", "_found", "_frames", "_largest", "_links", "_waiting", "dropped")

    def __init__(self, largest: int = 4_096) -> None:
        """Keep at most so many frames, and a quarter as many advertisements."""
        self._events: deque[RadioEvent] = deque()
        self._found: dict[str, Found] = {}
        self._frames = 0
        self._largest: Final = largest
        self._links: Final = itertools.count(1)
        self._waiting: Final = asyncio.Event()
        self.dropped = 0

    def new_link(self) -> Link:
        """A number for a link."""
        return next(self._links)

    def put(self, event: RadioEvent) -> None:
        """Tell of an event."""
        if isinstance(event, Found):
            if event.address not in self._found and len(self._found) * 4 >= self._largest:
                self.dropped += 1
                return
            self._found[event.address] = event
        else:
            if isinstance(event, Received):
                if self._frames >= self._largest:
                    self.dropped += 1
                    return
                self._frames += 1
            self._events.append(event)
        self._waiting.set()

    async def next(self) -> RadioEvent:
        """Wait for an event; advertisements come after everything else."""
        await self._waiting.wait()
        event: RadioEvent
        if self._events:
            event = self._events.popleft()
            if isinstance(event, Received):
                self._frames -= 1
        else:
            event = self._found.pop(next(iter(self._found)))
        if not self._events and not self._found:
            self._waiting.clear()
        return event
