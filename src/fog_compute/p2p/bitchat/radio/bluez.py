"""A driver over BlueZ, the Bluetooth service of Linux: bleak connects, D-Bus objects are found.

bleak (MIT) has the central's part, and no peripheral's; that one is two objects on D-Bus. What is
known to go wrong with BlueZ is kept away from here on: it is never asked for two attempts at once,
nor to scan while it connects (:mod:`fog_compute.p2p.bitchat.ble_scanner`), what it remembers of a
device is removed after an attempt failed, and a service is advertised a moment after it was
registered, because others do not see it at once.

As peripheral BlueZ does not say to whom a notification goes: some of its versions have one socket
for all who subscribed. What was written to a socket a moment ago is then not written again for the
next link.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fog_compute.p2p.bitchat.radio.bluez_offer import ADVERTISEMENT_PATH, BluezOffer
from fog_compute.p2p.bitchat.radio.bluez_reasons import (
    CallFailed,
    choose,
    read_block,
    without_bluez,
)
from fog_compute.p2p.bitchat.radio.central import SEND_S, STOP_S, BleakCentral
from fog_compute.p2p.bitchat.radio.interface import (
    EXTRA,
    SHORTEST_FRAME,
    Back,
    Closed,
    ConnectFailed,
    EventQueue,
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
    from bleak.backends.device import BLEDevice

    from fog_compute.p2p.bitchat.radio.bluez_bus import BluezBus

__all__ = ["BluezRadio"]

LOST: Final = "the system D-Bus, over which Bluetooth is reached, ended: see that dbus runs"

SAME_S: Final = 0.5
"""Seconds in which the same bytes are not written to one socket twice."""

EARLY: Final = 16
"""Writes of a device that are kept until it subscribes, and in which a notification is known."""


@dataclass(slots=True)
class _Notify:
    """A socket whose packets BlueZ turns into notifications."""

    socket: socket.socket
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    recent: deque[tuple[float, Link, bytes]] = field(default_factory=lambda: deque(maxlen=EARLY))


@dataclass(slots=True)
class _Open:
    """A link that the other side made: the device's object, and a socket."""

    mtu: int
    path: str
    notify: _Notify


class BluezRadio:
    """A `fog_compute.p2p.bitchat.radio.interface.Radio` over BlueZ."""

    __slots__ = (
        "_adapter",
        "_bus",
        "_central",
        "_connected",
        "_early",
        "_events",
        "_links",
        "_offer",
        "_reason",
        "_tasks",
        "_wanted",
    )

    def __init__(self, adapter: str = "", *, timeout_s: float = 8.0) -> None:
        """Make a driver; it touches nothing before `start`.

        Args:
            adapter: its name, such as ``hci0``; empty for the first that is switched on.
            timeout_s: of a connection attempt.
        """
        self._wanted: Final = adapter
        self._events: Final = EventQueue()
        self._central: Final = BleakCentral(self._events, timeout_s, self._forget, self._has_come)
        self._links: Final[dict[Link, _Open]] = {}
        self._early: Final[OrderedDict[str, deque[tuple[bytes, int]]]] = OrderedDict()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._reason: str | None = "the driver was not started"
        self._adapter = ""
        self._connected: frozenset[str] = frozenset()
        self._offer: BluezOffer | None = None
        self._bus: BluezBus | None = None

    async def start(self) -> None:
        """See `Radio.start`."""
        try:
            import bleak  # noqa: F401 - a missing extra is told here, once

            from fog_compute.p2p.bitchat.radio.bluez_bus import BluezBus
            from fog_compute.p2p.bitchat.radio.bluez_service import (
                Advertisement,
                Characteristic,
                Service,
            )
        except ImportError as error:
            self._reason = f"Bluetooth needs the package {error.name}: {EXTRA}"
            raise RadioUnavailable(self._reason) from None
        self._bus = BluezBus(self._changed)
        try:
            bus = await self._bus.open()
            service, characteristic = Service(), Characteristic(self._written, self._subscribed)
            bus.export(service.path, service)
            bus.export(characteristic.path, characteristic)
            bus.export(ADVERTISEMENT_PATH, Advertisement(self._released))
            reason = self._look()
            if reason is not None:
                raise RadioUnavailable(reason)
        except RadioUnavailable as error:
            await self.stop()
            self._reason = str(error)
            raise
        await self._take(self._bus)

    async def stop(self) -> None:
        """See `Radio.stop`."""
        if self._offer is not None:
            self._offer.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                ours = map(self.disconnect, tuple(self._links))
                await asyncio.gather(self._central.stop(), *ours)
        for task in tuple(self._tasks):
            task.cancel()
        self._lose("the driver was stopped", tell=False)
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.close()  # BlueZ forgets what a client registered that is gone

    async def scan(self, on: bool) -> None:
        """See `Radio.scan`."""
        if on:
            self._usable()
        await self._central.scan(on)

    async def advertise(self, on: bool) -> None:
        """See `Radio.advertise`."""
        self._usable()
        if self._offer is not None:
            await self._offer.advertise(on)

    async def connect(self, address: str) -> None:
        """See `Radio.connect`."""
        if self._reason is not None:
            raise ConnectFailed(f"cannot connect to {address}: {self._reason}")
        await self._central.connect(address)

    async def disconnect(self, link: Link) -> None:
        """See `Radio.disconnect`; one that another made ends with its connection."""
        from fog_compute.p2p.bitchat.radio.bluez_bus import DEVICE

        if await self._central.disconnect(link):
            return
        known = self._links.get(link)
        if known is not None and self._bus is not None:
            with contextlib.suppress(CallFailed):
                await self._bus.call(known.path, DEVICE, "Disconnect")
            self._close(link, "disconnected by us")

    async def send(self, link: Link, data: bytes) -> bool:
        """See `Radio.send`."""
        sent = await self._central.send(link, data)
        if sent is not None:
            return sent
        known = self._links.get(link)
        if known is None or len(data) > known.mtu:
            return False
        return await self._notify(link, known.notify, data)

    async def next(self) -> RadioEvent:
        """See `Radio.next`."""
        return await self._events.next()

    def state(self) -> RadioState:
        """See `Radio.state`."""
        if self._offer is None:
            return RadioState(central=False, peripheral=False, unavailable_because=self._reason)
        limit = self._offer.limited_because
        return RadioState(central=True, peripheral=limit is None, limited_because=limit)

    def _usable(self) -> BluezBus:
        if self._bus is None or self._reason is not None:
            raise RadioUnavailable(self._reason or "there is no Bluetooth adapter")
        return self._bus

    def _look(self) -> str | None:
        """Choose an adapter; why there is none, otherwise."""
        from fog_compute.p2p.bitchat.radio.bluez_bus import ADAPTER

        if self._bus is None:
            return "the driver was stopped"
        if not self._bus.there:
            return without_bluez("")
        adapters = {
            path.rpartition("/")[2]: self._bus.interfaces(path)[ADAPTER]
            for path in self._bus.having(ADAPTER)
        }
        name, reason = choose(adapters, self._wanted, read_block)
        if reason is None:
            self._adapter = self._central.adapter = name
        return reason

    async def _take(self, bus: BluezBus) -> None:
        """Register the service with the adapter that was chosen, and say that it is there."""
        self._reason = None
        self._offer = offer = BluezOffer(bus, self._adapter)
        await offer.register(bus.interfaces(f"/org/bluez/{self._adapter}"))
        if self._offer is offer:  # it did not go meanwhile
            self._events.put(Back())

    def _changed(self) -> None:
        """Adapters or devices came, went or changed."""
        from fog_compute.p2p.bitchat.radio.bluez_bus import ADAPTER, DEVICE

        bus = self._bus
        if bus is None:
            return
        if bus.lost:
            self._lose(LOST, tell=True, final=True)
            return
        if self._adapter and not bus.get(f"/org/bluez/{self._adapter}", ADAPTER, "Powered"):
            adapter, self._adapter = self._adapter, ""
            self._lose(self._look() or f"the Bluetooth adapter {adapter} is gone", tell=True)
        if not self._adapter and self._reason is not None:
            reason = self._look()
            if reason is None:
                self._reason = "the Bluetooth adapter is not ready yet"
                self._run(self._take(bus))
            elif reason != self._reason:
                self._reason = reason
                self._events.put(Gone(reason))
        here = f"/org/bluez/{self._adapter}/"
        connected = frozenset(
            path
            for path in bus.having(DEVICE)
            if path.startswith(here) and bus.get(path, DEVICE, "Connected")
        )
        if connected - self._connected and self._offer is not None:
            self._run(self._offer.go_on())
        self._connected = connected
        for link, known in tuple(self._links.items()):
            if not bus.get(known.path, DEVICE, "Connected"):
                self._close(link, "disconnected")

    def _subscribed(self, path: str, mtu: int, ours: socket.socket) -> None:
        notify = _Notify(ours)
        self._run(self._watch(notify))
        link = self._link_of(path)
        if link is not None:
            self._close(link, "subscribed anew")
        self._admit(path, mtu, notify)

    def _written(self, path: str, data: bytes, mtu: int) -> None:
        link = self._link_of(path)
        if link is None and (shared := self._shared()) is not None:
            link = self._admit(path, mtu, shared)
        if link is not None:
            self._events.put(Received(link, data))
            return
        waiting = self._early.setdefault(path, deque(maxlen=EARLY))
        waiting.append((data, mtu))
        while len(self._early) > EARLY:
            self._early.popitem(last=False)

    def _admit(self, path: str, mtu: int, notify: _Notify) -> Link | None:
        from fog_compute.p2p.bitchat.radio.bluez_bus import DEVICE

        limit = frame_limit(mtu)
        if limit < SHORTEST_FRAME or self._bus is None:
            return None
        link = self._events.new_link()
        self._links[link] = _Open(limit, path, notify)
        address = self._bus.get(path, DEVICE, "Address")
        self._events.put(
            Opened(link, address if isinstance(address, str) else "", limit, initiated=False)
        )
        for data, _ in self._early.pop(path, ()):
            self._events.put(Received(link, data))
        return link

    def _shared(self) -> _Notify | None:
        """The socket of somebody who subscribed: where BlueZ has one for all, it is theirs too."""
        return next((known.notify for known in self._links.values()), None)

    def _link_of(self, path: str) -> Link | None:
        for link, known in self._links.items():
            if known.path == path:
                return link
        return None

    async def _notify(self, link: Link, notify: _Notify, data: bytes) -> bool:
        loop = asyncio.get_running_loop()
        async with notify.lock:
            now = loop.time()
            for at, by, sent in notify.recent:
                if sent == data and by != link and now - at < SAME_S:
                    return True  # it went to all who subscribed
            try:
                async with asyncio.timeout(SEND_S):
                    await loop.sock_sendall(notify.socket, data)
            except (OSError, TimeoutError):
                return False
            notify.recent.append((now, link, data))
        return True

    async def _watch(self, notify: _Notify) -> None:
        """Wait until BlueZ closes a socket: nobody is subscribed to it any more."""
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):
                while await loop.sock_recv(notify.socket, 64):
                    pass
        finally:
            notify.socket.close()
            for link, known in tuple(self._links.items()):
                if known.notify is notify:
                    self._close(link, "not subscribed any more")

    def _released(self) -> None:
        if self._offer is not None:
            self._offer.advertised = False

    def _close(self, link: Link, reason: str) -> None:
        known = self._links.pop(link, None)
        if known is not None:
            self._events.put(Closed(link, reason))

    def _lose(self, reason: str, *, tell: bool, final: bool = False) -> None:
        was, self._reason = self._reason, reason
        self._adapter = self._central.adapter = ""
        if self._offer is not None:
            self._offer.end()
            self._offer = None
        self._early.clear()
        self._central.lose(reason)
        for link in tuple(self._links):
            self._close(link, reason)
        if tell and (final or was is None):
            self._events.put(Gone(reason, final))

    async def _forget(self, device: BLEDevice) -> None:
        """Let BlueZ forget a device: after a failed attempt it otherwise fails again and again."""
        from fog_compute.p2p.bitchat.radio.bluez_bus import ADAPTER

        path = _path(device)
        if self._bus is not None and path:
            with contextlib.suppress(CallFailed):
                await self._bus.call(path.rpartition("/")[0], ADAPTER, "RemoveDevice", "o", path)

    def _has_come(self, device: BLEDevice) -> bool:
        return self._link_of(_path(device)) is not None

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = background(work, "bluez")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _path(device: BLEDevice) -> str:
    details = device.details
    return str(details.get("path", "")) if isinstance(details, dict) else ""
