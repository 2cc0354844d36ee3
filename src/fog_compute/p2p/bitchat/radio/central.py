"""The central's part by bleak, which has it for Linux, macOS and Windows: find, connect, write.

A part of the drivers over a system's own Bluetooth; they add the peripheral's part, which bleak has
not. bleak (MIT) is imported when something is asked of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fog_compute.p2p.bitchat.radio.interface import (
    CHARACTERISTIC,
    LONGEST_VALUE,
    SERVICE,
    SHORTEST_FRAME,
    Closed,
    ConnectFailed,
    EventQueue,
    Found,
    Link,
    Opened,
    RadioUnavailable,
    Received,
)

if TYPE_CHECKING:
    from bleak import BleakClient, BleakScanner
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

__all__ = ["SEND_S", "STOP_S", "BleakCentral"]

SEND_S: Final = 5.0
"""Seconds after which a frame that nobody takes is given up."""

STOP_S: Final = 6.0
"""Seconds in which links end. BlueZ takes two, and does not go on for a program that has left."""

NO_RSSI: Final = -127
"""What bleak says where the system tells no signal strength."""

REMEMBERED: Final = 256
"""Devices whose advertisement is remembered; of strangers the oldest are forgotten."""

EARLY: Final = 16
"""Frames that may come in between the subscription and the news of it."""


@dataclass(slots=True)
class _Open:
    client: BleakClient
    mtu: int
    respond: bool


class BleakCentral:
    """All links that this side made.

    Attributes:
        adapter: with which BlueZ scans and connects; "" for the system's.
    """

    __slots__ = ("_devices", "_events", "_forget", "_links", "_scanner", "_timeout_s", "adapter")

    def __init__(
        self,
        events: EventQueue,
        timeout_s: float,
        forget: Callable[[BLEDevice], Awaitable[None]] | None = None,
    ) -> None:
        """Make one; ``forget`` lets the system forget a device after a failed attempt."""
        self._events: Final = events
        self._timeout_s: Final = timeout_s
        self._forget: Final = forget
        self._links: Final[dict[Link, _Open]] = {}
        self._devices: Final[OrderedDict[str, BLEDevice]] = OrderedDict()
        self._scanner: BleakScanner | None = None
        self.adapter = ""

    async def scan(self, on: bool) -> None:
        """See `Radio.scan`."""
        if not on:
            scanner, self._scanner = self._scanner, None
            if scanner is not None:
                with contextlib.suppress(Exception):
                    await scanner.stop()
            return
        if self._scanner is not None:
            return
        from bleak import BleakScanner
        from bleak.exc import BleakError

        scanner = BleakScanner(self._heard, service_uuids=[SERVICE], **self._with())
        try:
            await scanner.start()
        except (BleakError, OSError, EOFError) as error:
            raise RadioUnavailable(f"the Bluetooth adapter does not scan: {error}") from error
        self._scanner = scanner

    async def connect(self, address: str) -> None:
        """See `Radio.connect`."""
        from bleak import BleakClient
        from bleak.exc import BleakError

        device = self._devices.get(address)
        if device is None:
            raise ConnectFailed(f"{address} was not found, or not lately")
        link = self._events.new_link()
        early: deque[bytes] = deque(maxlen=EARLY)

        def notified(_: object, data: bytearray) -> None:
            if link in self._links:
                self._events.put(Received(link, bytes(data)))
            else:
                early.append(bytes(data))

        client = BleakClient(
            device,
            disconnected_callback=lambda _: self.close(link, "disconnected"),
            services=[SERVICE],
            timeout=self._timeout_s,
            **self._with(),
        )
        opened = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await client.connect()
                characteristic = client.services.get_characteristic(CHARACTERISTIC)
                if characteristic is None:
                    raise ConnectFailed(f"{address} has no BitChat service")
                await client.start_notify(characteristic, notified)
            # The system cuts a write that is answered into parts where the connection takes little.
            size = min(characteristic.max_write_without_response_size, LONGEST_VALUE)
            respond = size < SHORTEST_FRAME
            known = _Open(client, LONGEST_VALUE if respond else size, respond)
            opened = client.is_connected
            if not opened:
                raise ConnectFailed(f"{address} disconnected")
        except (BleakError, TimeoutError, OSError, EOFError) as error:
            reason = str(error) or "no answer"
            raise ConnectFailed(f"cannot connect to {address}: {reason}") from error
        finally:
            if not opened:
                await asyncio.shield(self._give_up(client, device))
        self._links[link] = known
        self._events.put(Opened(link, address, known.mtu, initiated=True))
        for data in early:
            self._events.put(Received(link, data))

    async def disconnect(self, link: Link) -> bool:
        """End a link; False if it is none of these."""
        known = self._links.get(link)
        if known is None:
            return False
        with contextlib.suppress(Exception):
            await known.client.disconnect()
        self.close(link, "disconnected by us")
        return True

    async def send(self, link: Link, data: bytes) -> bool | None:
        """See `Radio.send`; None if the link is none of these."""
        known = self._links.get(link)
        if known is None:
            return None
        if len(data) > known.mtu:
            return False
        from bleak.exc import BleakError

        try:
            async with asyncio.timeout(SEND_S):
                await known.client.write_gatt_char(CHARACTERISTIC, data, response=known.respond)
        except (BleakError, TimeoutError, OSError, EOFError):
            return False
        return True

    def close(self, link: Link, reason: str) -> None:
        """A link is over."""
        if self._links.pop(link, None) is not None:
            self._events.put(Closed(link, reason))

    def lose(self, reason: str) -> None:
        """The adapter is gone, with all links."""
        self._scanner = None
        self._devices.clear()
        for link in tuple(self._links):
            self.close(link, reason)

    async def stop(self) -> None:
        """End scanning and all links."""
        await self.scan(False)
        if self._links:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(*map(self.disconnect, tuple(self._links)))

    def _with(self) -> dict[str, Any]:
        return {"bluez": {"adapter": self.adapter}} if self.adapter else {}

    def _heard(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        self._devices[device.address] = device
        self._devices.move_to_end(device.address)
        while len(self._devices) > REMEMBERED:
            self._devices.popitem(last=False)
        rssi = 0 if advertisement.rssi == NO_RSSI else advertisement.rssi
        self._events.put(Found(device.address, rssi))

    async def _give_up(self, client: BleakClient, device: BLEDevice) -> None:
        with contextlib.suppress(Exception):
            await client.disconnect()
        self._devices.pop(device.address, None)
        if self._forget is not None:
            await self._forget(device)
