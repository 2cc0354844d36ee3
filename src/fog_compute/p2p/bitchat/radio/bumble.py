"""A driver over bumble, a Bluetooth stack of its own: for raw HCI, and for virtual radios.

It takes an adapter from the system whole: ``hci-socket:0``, ``usb:0``, ``tcp-client:…`` or any
other name that bumble knows. Over a controller in memory it is what tests use. bumble (Apache-2.0)
brings a library under LGPL with it and is therefore no extra of this package.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from fog_compute.p2p.bitchat.radio.bumble_connect import bounded, reach, said
from fog_compute.p2p.bitchat.radio.interface import (
    CHARACTERISTIC,
    MTU,
    SERVICE,
    SHORTEST_FRAME,
    Back,
    Closed,
    ConnectFailed,
    EventQueue,
    Found,
    Gone,
    Link,
    Opened,
    RadioEvent,
    RadioState,
    RadioUnavailable,
    Received,
    frame_limit,
)
from fog_compute.p2p.core.background import background

if TYPE_CHECKING:
    from bumble.device import Advertisement, Connection, Device
    from bumble.gatt import Characteristic
    from bumble.gatt_client import CharacteristicProxy

__all__ = ["BumbleRadio", "Hci", "open_hci"]

_UUID: Final = UUID(SERVICE).bytes[::-1]
"""The service, as an advertisement has it."""

_EARLY: Final = 16
"""Frames that may come in between the subscription and the news of it."""


class Hci(Protocol):
    """A way to a controller, as bumble has it: where its packets come from, and where ours go."""

    source: Any
    sink: Any

    async def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(slots=True)
class _Open:
    """A link: its connection, and the other side's characteristic where this side connected."""

    connection: Connection
    mtu: int
    proxy: CharacteristicProxy[bytes] | None = None


def open_hci(name: str) -> Callable[[], Awaitable[Hci]]:
    """What opens an adapter by bumble's name of it, such as ``hci-socket:0``."""

    async def attach() -> Hci:
        from bumble.transport import open_transport

        return await open_transport(name)

    return attach


class BumbleRadio:
    """A `fog_compute.p2p.bitchat.radio.interface.Radio` over a controller that speaks HCI."""

    __slots__ = (
        "_adapter",
        "_advertising",
        "_attach",
        "_characteristic",
        "_device",
        "_events",
        "_hci",
        "_interval_ms",
        "_links",
        "_reaching",
        "_reason",
        "_tasks",
        "_timeout_s",
    )

    def __init__(
        self,
        attach: Callable[[], Awaitable[Hci]],
        *,
        address: str = "",
        interval_ms: float = 250.0,
        timeout_s: float = 8.0,
    ) -> None:
        """Make a driver; it touches nothing before `start`.

        Args:
            attach: opens the way to the controller, see `open_hci`.
            address: of ours, as ``C0:…``; empty for a random one, new with each start.
            interval_ms: between two advertisements.
            timeout_s: of a connection attempt.
        """
        self._attach: Final = attach
        self._adapter: Final = address
        self._interval_ms: Final = interval_ms
        self._timeout_s: Final = timeout_s
        self._events: Final = EventQueue()
        self._links: Final[dict[Link, _Open]] = {}
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._reason: str | None = "the driver was not started"
        self._advertising = False
        self._reaching = False
        self._device: Device | None = None
        self._characteristic: Characteristic[bytes] | None = None
        self._hci: Hci | None = None

    async def start(self) -> None:
        """See `Radio.start`."""
        try:
            from bumble.core import BaseBumbleError
        except ImportError:
            self._reason = "bumble is not installed: pip install bumble"
            raise RadioUnavailable(self._reason) from None
        try:
            self._hci = await self._attach()
            self._device = self._make(self._hci)
            await asyncio.wait_for(self._device.power_on(), self._timeout_s)
        except (BaseBumbleError, OSError, TimeoutError, ValueError) as error:
            await self.stop()
            self._reason = f"the Bluetooth controller does not answer: {said(error)}"
            raise RadioUnavailable(self._reason) from error
        self._reason = None
        self._events.put(Back())
        ended = getattr(self._hci.source, "terminated", None)
        if ended is not None:
            self._run(self._watch(ended))

    async def stop(self) -> None:
        """See `Radio.stop`."""
        for task in tuple(self._tasks):
            task.cancel()
        device, self._device = self._device, None
        if device is not None:
            for link in tuple(self._links):
                with contextlib.suppress(Exception):
                    await bounded(self._end(self._links[link].connection))
            with contextlib.suppress(Exception):
                await bounded(device.power_off())
        self._lose("the driver was stopped")
        hci, self._hci = self._hci, None
        if hci is not None:
            await hci.close()

    async def scan(self, on: bool) -> None:
        """See `Radio.scan`."""
        device = self._usable()
        if device.scanning != on:
            await self._ask(
                device.start_scanning(active=False, filter_duplicates=False)
                if on
                else device.stop_scanning()
            )

    async def advertise(self, on: bool) -> None:
        """See `Radio.advertise`."""
        device = self._usable()
        self._advertising = on
        if on:
            await self._advertise(device)
        elif device.is_advertising:
            await self._ask(device.stop_advertising())

    async def connect(self, address: str) -> None:
        """See `Radio.connect`."""
        from bumble.core import BaseBumbleError
        from bumble.device import Peer

        connection: Connection | None = None
        opened = False
        early: deque[bytes] = deque(maxlen=_EARLY)
        try:
            async with asyncio.timeout(self._timeout_s):
                device, self._reaching = self._usable(), True
                try:
                    connection = await reach(device, address)
                finally:
                    self._reaching = False
                peer = Peer(connection)
                await peer.request_mtu(MTU)
                services = await peer.discover_service(SERVICE)
                found = [
                    proxy
                    for service in services
                    for proxy in await service.discover_characteristics([CHARACTERISTIC])
                ]
                if not found:
                    raise ConnectFailed(f"{address} has no BitChat service")
                link = self._events.new_link()
                await found[0].subscribe(
                    lambda data: (
                        self._receive(link, bytes(data))
                        if link in self._links
                        else early.append(bytes(data))
                    )
                )
            opened = self._open(link, _Open(connection, frame_limit(connection.att_mtu), found[0]))
            if not opened:
                raise ConnectFailed(f"{address} takes frames of less than {SHORTEST_FRAME} bytes")
            for data in early:
                self._receive(link, data)
        except (BaseBumbleError, TimeoutError, RadioUnavailable) as error:
            raise ConnectFailed(f"cannot connect to {address}: {said(error)}") from error
        finally:
            if connection is not None and not opened:
                self._run(self._end(connection))

    async def disconnect(self, link: Link) -> None:
        """See `Radio.disconnect`."""
        if (known := self._links.get(link)) is not None:
            await self._end(known.connection)

    async def send(self, link: Link, data: bytes) -> bool:
        """See `Radio.send`."""
        from bumble.core import BaseBumbleError

        known = self._links.get(link)
        if known is None or len(data) > known.mtu or self._device is None:
            return False
        try:
            if known.proxy is not None:
                await known.proxy.write_value(data)
            elif self._characteristic is not None:
                await self._device.gatt_server.notify_subscriber(
                    known.connection, self._characteristic, data
                )
            queue = self._device.host.get_data_packet_queue(known.connection.handle)
            if queue is not None:
                await queue.drain(known.connection.handle)
        except (BaseBumbleError, ValueError):
            return False  # it ended meanwhile
        return link in self._links

    async def next(self) -> RadioEvent:
        """See `Radio.next`."""
        return await self._events.next()

    def state(self) -> RadioState:
        """See `Radio.state`."""
        there = self._reason is None
        return RadioState(central=there, peripheral=there, unavailable_because=self._reason)

    def _make(self, hci: Hci) -> Device:
        from bumble.core import AdvertisingData
        from bumble.device import Device
        from bumble.gatt import Characteristic, CharacteristicValue, Service
        from bumble.hci import Address

        address = Address(self._adapter) if self._adapter else Address.generate_static_address()
        device = Device.with_hci("", address, hci.source, hci.sink)
        properties = Characteristic.Properties
        self._characteristic = Characteristic(
            CHARACTERISTIC,
            properties.READ
            | properties.WRITE
            | properties.WRITE_WITHOUT_RESPONSE
            | properties.NOTIFY,
            Characteristic.READABLE | Characteristic.WRITEABLE,
            CharacteristicValue(read=lambda _: b"", write=self._written),
        )
        self._characteristic.on(Characteristic.EVENT_SUBSCRIPTION, self._subscribed)
        device.add_service(Service(SERVICE, [self._characteristic]))
        device.advertising_data = bytes(
            AdvertisingData(
                [
                    (AdvertisingData.FLAGS, bytes([0x06])),
                    (
                        AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
                        _UUID,
                    ),
                ]
            )
        )
        device.on(Device.EVENT_ADVERTISEMENT, self._heard)
        device.on(Device.EVENT_CONNECTION, self._connected)
        return device

    def _usable(self) -> Device:
        if self._device is None or self._reason is not None:
            raise RadioUnavailable(self._reason or "there is no Bluetooth controller")
        return self._device

    async def _ask(self, command: Coroutine[Any, Any, None]) -> None:
        """Let the controller do something.

        Cancelled, the command goes on: its answer would otherwise be taken for the next one's.
        """
        from bumble.core import BaseBumbleError

        try:
            await asyncio.shield(asyncio.ensure_future(command))
        except BaseBumbleError as error:
            raise RadioUnavailable(f"the Bluetooth controller refuses: {error}") from error

    async def _advertise(self, device: Device) -> None:
        await self._ask(
            device.start_advertising(
                advertising_interval_min=self._interval_ms,
                advertising_interval_max=self._interval_ms,
            )
        )

    def _heard(self, advertisement: Advertisement) -> None:
        # The bytes are looked at, as bumble keeps every UUID that it ever made an object of.
        if _UUID in advertisement.data_bytes and advertisement.is_connectable:
            rssi = (
                0 if advertisement.rssi == advertisement.RSSI_NOT_AVAILABLE else advertisement.rssi
            )
            self._events.put(Found(str(advertisement.address), rssi))

    def _connected(self, connection: Connection) -> None:
        from bumble.hci import Role

        connection.on(connection.EVENT_DISCONNECTION, lambda code: self._ended(connection, code))
        if connection.role == Role.PERIPHERAL and self._advertising:
            self._run(self._again())  # a controller stops advertising when somebody connects
        elif connection.role == Role.CENTRAL and not self._reaching:
            self._run(self._end(connection))  # it came just after its attempt was given up

    async def _again(self) -> None:
        if self._device is not None and self._advertising:
            with contextlib.suppress(RadioUnavailable):
                await self._advertise(self._device)

    def _subscribed(self, connection: Connection, notify: bool, _indicate: bool) -> None:
        known = self._link_of(connection)
        if notify and known is None:
            link = self._events.new_link()
            if not self._open(link, _Open(connection, frame_limit(connection.att_mtu))):
                self._run(self._end(connection))
        elif not notify and known is not None:
            self._run(self._end(connection))

    def _written(self, connection: Connection, value: bytes) -> None:
        if (link := self._link_of(connection)) is not None:
            self._receive(link, bytes(value))

    def _receive(self, link: Link, data: bytes) -> None:
        if link in self._links:
            self._events.put(Received(link, data))

    def _link_of(self, connection: Connection) -> Link | None:
        for link, known in self._links.items():
            if known.connection is connection and known.proxy is None:
                return link
        return None

    def _open(self, link: Link, known: _Open) -> bool:
        if known.mtu < SHORTEST_FRAME:
            return False
        self._links[link] = known
        address = str(known.connection.peer_address)
        self._events.put(Opened(link, address, known.mtu, known.proxy is not None))
        return True

    def _ended(self, connection: Connection, code: int) -> None:
        for link, known in tuple(self._links.items()):
            if known.connection is connection:
                del self._links[link]
                self._events.put(Closed(link, f"HCI reason {code:#04x}"))

    async def _end(self, connection: Connection) -> None:
        from bumble.core import BaseBumbleError

        with contextlib.suppress(BaseBumbleError, asyncio.InvalidStateError):
            await connection.disconnect()

    async def _watch(self, ended: asyncio.Future[None]) -> None:
        with contextlib.suppress(Exception):
            await asyncio.shield(ended)
        self._lose("the Bluetooth controller was unplugged")

    def _lose(self, reason: str) -> None:
        was, self._reason = self._reason, reason
        self._advertising = False
        for link in tuple(self._links):
            del self._links[link]
            self._events.put(Closed(link, reason))
        if was is None:
            self._events.put(Gone(reason, final=True))

    def _run(self, work: Any) -> None:
        task = background(work, "bumble")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
