"""The central's part by bleak, which has it for Linux, macOS and Windows: find, connect, write.

A part of the drivers over a system's own Bluetooth; they add the peripheral's part, which bleak has
not. bleak (MIT) is imported when something is asked of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
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
from fog_compute.p2p.core.background import background

if TYPE_CHECKING:
    from bleak import BleakClient, BleakScanner
    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

__all__ = ["SEND_S", "STOP_S", "BleakCentral"]

SEND_S: Final = 5.0
"""Seconds after which a frame that nobody takes is given up."""

STOP_S: Final = 6.0
"""Seconds in which links end. BlueZ takes two, and does not go on for a program that has left."""

SCAN_S: Final = 30.0
"""Seconds in which a scan begins: one that a bluetoothd began that was killed lasts for ten."""

LEFT_S: Final = 86_400.0
"""Seconds in which an attempt ends that was left to itself: its connection does so long before."""

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


@dataclass(slots=True)
class _Attempt:
    """An attempt to connect.

    Attributes:
        device: to which.
        over: done when it is over.
        limit: of its time; None before it begins.
        left: nobody waits for it, and it is not to become a link.
    """

    device: BLEDevice
    over: asyncio.Future[None]
    limit: asyncio.Timeout | None = None
    left: bool = False

    def leave(self) -> None:
        """Let it take its time."""
        self.left = True
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(None)


class BleakCentral:
    """All links that this side made.

    Attributes:
        adapter: with which BlueZ scans and connects; "" for the system's.
    """

    __slots__ = (
        "_devices",
        "_events",
        "_forget",
        "_has_come",
        "_idle",
        "_links",
        "_lost",
        "_scanner",
        "_tasks",
        "_timeout_s",
        "adapter",
    )

    def __init__(
        self,
        events: EventQueue,
        timeout_s: float,
        forget: Callable[[BLEDevice], Awaitable[None]] | None = None,
        has_come: Callable[[BLEDevice], bool] = lambda _: False,
    ) -> None:
        """Make one.

        Args:
            events: where to tell what happens.
            timeout_s: of an attempt to connect.
            forget: lets the system forget a device after a failed attempt.
            has_come: whether a device has connected to us.
        """
        self._events: Final = events
        self._timeout_s: Final = timeout_s
        self._forget: Final = forget
        self._has_come: Final = has_come
        self._links: Final[dict[Link, _Open]] = {}
        self._devices: Final[OrderedDict[str, BLEDevice]] = OrderedDict()
        self._idle: Final[set[BleakClient]] = set()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._scanner: BleakScanner | None = None
        self._lost = 0
        self.adapter = ""

    async def scan(self, on: bool) -> None:
        """See `Radio.scan`."""
        if not on:
            scanner, self._scanner = self._scanner, None
            if scanner is not None:
                await _bounded(scanner.stop())
            return
        if self._scanner is not None:
            return
        from bleak import BleakScanner
        from bleak.exc import BleakError

        lost = self._lost
        scanner = BleakScanner(self._heard, service_uuids=[SERVICE], **self._with())
        try:
            async with asyncio.timeout(SCAN_S):
                await scanner.start()
        except (BleakError, TimeoutError, OSError, EOFError) as error:
            reason = str(error) or "no answer"
            raise RadioUnavailable(f"the Bluetooth adapter does not scan: {reason}") from error
        if lost != self._lost:
            self._run(_bounded(scanner.stop()))
            raise RadioUnavailable("the Bluetooth adapter went")
        self._scanner = scanner

    async def connect(self, address: str) -> None:
        """See `Radio.connect`.

        An attempt runs beside its caller, because the system may fail to say that it has ended one.
        Where the other side has connected meanwhile it is not ended but left to itself: the system
        has one connection for both directions, and would end that.
        """
        device = self._devices.get(address)
        if device is None:
            raise ConnectFailed(f"{address} was not found, or not lately")
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt = _Attempt(device, over)
        work = self._run(self._try(attempt))
        try:
            async with asyncio.timeout(self._timeout_s + STOP_S):
                await over
        except TimeoutError:
            work.cancel()
            self._devices.pop(address, None)
            why = "the system does not say that it has given up"
            raise ConnectFailed(f"cannot connect to {address}: {why}") from None
        except asyncio.CancelledError:
            if self._has_come(device):
                attempt.leave()
            else:
                work.cancel()
                await asyncio.wait({work}, timeout=STOP_S)
            raise

    async def _try(self, attempt: _Attempt) -> None:
        failed: ConnectFailed | None = None
        try:
            await self._reach(attempt)
        except ConnectFailed as error:
            failed = error
        except Exception as error:  # a fault of bleak's ends this attempt, and is logged
            failed = ConnectFailed(f"cannot connect: {type(error).__name__}")
            raise
        finally:
            if not attempt.over.done():
                if failed is None:
                    attempt.over.set_result(None)
                else:
                    attempt.over.set_exception(failed)

    async def _reach(self, attempt: _Attempt) -> None:
        """Connect and subscribe; one that was left meanwhile takes the subscription back.

        Raises:
            ConnectFailed: that did not work.
        """
        from bleak import BleakClient
        from bleak.exc import BleakError

        device, address = attempt.device, attempt.device.address
        link = self._events.new_link()
        early: deque[bytes] = deque(maxlen=EARLY)

        def notified(_: object, data: bytearray) -> None:
            if link in self._links:
                self._events.put(Received(link, bytes(data)))
            else:
                early.append(bytes(data))

        client = BleakClient(
            device,
            disconnected_callback=lambda _: self._disconnected(link, client),
            services=[SERVICE],
            timeout=LEFT_S,  # what it waits for is bounded here
            **self._with(),
        )
        opened = False
        try:
            async with asyncio.timeout(None if attempt.left else self._timeout_s) as attempt.limit:
                await client.connect()
                characteristic = client.services.get_characteristic(CHARACTERISTIC)
                if characteristic is None:
                    raise ConnectFailed(f"{address} has no BitChat service")
                if not attempt.left:
                    await client.start_notify(characteristic, notified)
            if attempt.left:
                opened = True
                await self._rest(client, characteristic)
                return
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
        await _bounded(known.client.disconnect())
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
        self._lost += 1
        scanner, self._scanner = self._scanner, None
        if scanner is not None:
            self._run(_bounded(scanner.stop()))
        self._devices.clear()
        for client in (*(known.client for known in self._links.values()), *self._idle):
            self._run(_bounded(client.disconnect()))
        self._idle.clear()
        for link in tuple(self._links):
            self.close(link, reason)

    async def stop(self) -> None:
        """End scanning and all links."""
        await self.scan(False)
        if self._links:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(*map(self.disconnect, tuple(self._links)))
        for task in self._tasks:
            task.cancel()

    def _with(self) -> dict[str, Any]:
        return {"bluez": {"adapter": self.adapter}} if self.adapter else {}

    def _heard(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        self._devices[device.address] = device
        self._devices.move_to_end(device.address)
        while len(self._devices) > REMEMBERED:
            self._devices.popitem(last=False)
        rssi = 0 if advertisement.rssi == NO_RSSI else advertisement.rssi
        self._events.put(Found(device.address, rssi))

    def _disconnected(self, link: Link, client: BleakClient) -> None:
        if link not in self._links and client not in self._idle:
            return  # an attempt ends by itself
        self.close(link, "disconnected")
        self._idle.discard(client)
        # bleak otherwise keeps a connection to D-Bus for it, to which BlueZ goes on notifying.
        self._run(_bounded(client.disconnect()))

    async def _rest(self, client: BleakClient, characteristic: BleakGATTCharacteristic) -> None:
        """Make no use of a connection that the other side made, and leave it as it is."""
        with contextlib.suppress(Exception):  # it may not have come to the subscription
            await client.stop_notify(characteristic)
        if client.is_connected:
            self._idle.add(client)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = background(work, "bleak")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _give_up(self, client: BleakClient, device: BLEDevice) -> None:
        await _bounded(client.disconnect())
        self._devices.pop(device.address, None)
        if self._forget is not None and not self._has_come(device):
            await self._forget(device)


async def _bounded(work: Awaitable[None]) -> None:
    """Let something end, whether the system says that it has or not."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(STOP_S):
            await work
