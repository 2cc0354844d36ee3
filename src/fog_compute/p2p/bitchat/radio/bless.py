"""A driver for macOS and Windows: bleak connects, bless (MIT) is found.

**Untested**: nobody has run it on a Mac yet; it is here so that somebody can. bless does not say
who wrote or subscribed, so that all who connect to us are one link, whose frames go to each of
them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from fog_compute.p2p.bitchat.radio.central import BleakCentral
from fog_compute.p2p.bitchat.radio.interface import (
    CHARACTERISTIC,
    SERVICE,
    Back,
    Closed,
    ConnectFailed,
    EventQueue,
    Link,
    Opened,
    RadioEvent,
    RadioState,
    RadioUnavailable,
    Received,
)

if TYPE_CHECKING:
    from bless import BlessServer

__all__ = ["BlessRadio"]

EXTRA: Final = "pip install 'fog-compute[bluetooth-macos]'"

EVERYBODY_BYTES: Final = 182
"""Bytes of a notification that every phone takes: Apple's smallest MTU, 185."""


class BlessRadio:
    """A `fog_compute.p2p.bitchat.radio.interface.Radio` over the system's Bluetooth."""

    __slots__ = ("_central", "_events", "_link", "_reason", "_server")

    def __init__(self, *, timeout_s: float = 8.0) -> None:
        """Make a driver; it touches nothing before `start`."""
        self._events: Final = EventQueue()
        self._central: Final = BleakCentral(self._events, timeout_s)
        self._reason: str | None = "the driver was not started"
        self._server: BlessServer | None = None
        self._link: Link | None = None

    async def start(self) -> None:
        """See `Radio.start`."""
        try:
            import bleak  # noqa: F401 - a missing extra is told here, once
            from bless import BlessServer, GATTAttributePermissions, GATTCharacteristicProperties
        except ImportError as error:
            self._reason = f"Bluetooth needs the package {error.name}: {EXTRA}"
            raise RadioUnavailable(self._reason) from None
        properties, permissions = GATTCharacteristicProperties, GATTAttributePermissions
        try:
            server = BlessServer(name="", loop=asyncio.get_running_loop())
            server.read_request_func = lambda *_args, **_more: bytearray()
            server.write_request_func = self._written
            await server.add_new_service(SERVICE)
            await server.add_new_characteristic(
                SERVICE,
                CHARACTERISTIC,
                properties.read
                | properties.write
                | properties.write_without_response
                | properties.notify,
                None,
                permissions.readable | permissions.writeable,
            )
        except Exception as error:  # each system has errors of its own
            self._reason = f"Bluetooth cannot be used: {error}"
            raise RadioUnavailable(self._reason) from error
        self._server = server
        self._reason = None
        self._events.put(Back())

    async def stop(self) -> None:
        """See `Radio.stop`."""
        await self._central.stop()
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(Exception):
                await server.stop()
        self._central.lose("the driver was stopped")
        self._close("the driver was stopped")
        self._reason = "the driver was stopped"

    async def scan(self, on: bool) -> None:
        """See `Radio.scan`."""
        await self._central.scan(on)

    async def advertise(self, on: bool) -> None:
        """See `Radio.advertise`."""
        if self._server is None:
            raise RadioUnavailable(self._reason or "Bluetooth cannot be used")
        try:
            if on:
                await self._server.start()
            else:
                await self._server.stop()
        except Exception as error:
            raise RadioUnavailable(f"the system does not advertise: {error}") from error

    async def connect(self, address: str) -> None:
        """See `Radio.connect`."""
        if self._reason is not None:
            raise ConnectFailed(f"cannot connect to {address}: {self._reason}")
        await self._central.connect(address)

    async def disconnect(self, link: Link) -> None:
        """See `Radio.disconnect`; those who connected to us cannot be sent away."""
        if not await self._central.disconnect(link) and link == self._link:
            self._close("disconnected by us")

    async def send(self, link: Link, data: bytes) -> bool:
        """See `Radio.send`."""
        sent = await self._central.send(link, data)
        if sent is not None:
            return sent
        if link != self._link or self._server is None or len(data) > EVERYBODY_BYTES:
            return False
        characteristic = self._server.get_characteristic(CHARACTERISTIC)
        if characteristic is None:
            return False
        characteristic.value = bytearray(data)
        return bool(self._server.update_value(SERVICE, CHARACTERISTIC))

    async def next(self) -> RadioEvent:
        """See `Radio.next`."""
        return await self._events.next()

    def state(self) -> RadioState:
        """See `Radio.state`."""
        there = self._reason is None
        return RadioState(there, there, self._reason)

    def _written(self, _characteristic: Any, value: Any, **_more: Any) -> None:
        if self._link is None:
            self._link = self._events.new_link()
            self._events.put(Opened(self._link, "", EVERYBODY_BYTES, initiated=False))
        self._events.put(Received(self._link, bytes(value)))

    def _close(self, reason: str) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._events.put(Closed(link, reason))
