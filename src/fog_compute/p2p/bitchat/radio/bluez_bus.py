"""BlueZ on the system's D-Bus: which adapters and devices there are, and calls to them.

Imported by :mod:`fog_compute.p2p.bitchat.radio.bluez` alone, once dbus-fast is known to be there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

from fog_compute.p2p.bitchat.radio.bluez_reasons import (
    CallFailed,
    without_bluez,
    without_bus,
)
from fog_compute.p2p.bitchat.radio.interface import RadioUnavailable
from fog_compute.p2p.core.background import background

__all__ = ["ADAPTER", "DEVICE", "BluezBus"]

ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"

OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
BLUEZ: Final = "org.bluez"
DAEMON: Final = "org.freedesktop.DBus"

RULES: Final = (
    f"type='signal',sender='{BLUEZ}',interface='{OBJECTS}'",
    f"type='signal',sender='{BLUEZ}',interface='{PROPERTIES}',member='PropertiesChanged'",
    f"type='signal',sender='{DAEMON}',member='NameOwnerChanged',arg0='{BLUEZ}'",
)

CALL_S: Final = 10.0
"""Seconds in which BlueZ answers; it never does of a connection that the kernel does not end."""


class BluezBus:
    """A connection to BlueZ, and what it has: properties by object path and interface.

    Attributes:
        there: whether bluetoothd runs, as far as was told.
        lost: D-Bus ended the connection, and another is needed.
    """

    __slots__ = ("_bus", "_changed", "_objects", "_watch", "lost", "there")

    def __init__(self, changed: Callable[[], None]) -> None:
        """``changed`` is called after adapters or devices came, went or changed."""
        self._changed: Final = changed
        self._objects: Final[dict[str, dict[str, dict[str, Any]]]] = {}
        self._bus: MessageBus | None = None
        self._watch: asyncio.Task[None] | None = None
        self.there = self.lost = False

    async def open(self) -> MessageBus:
        """Connect, and learn what there is.

        Raises:
            RadioUnavailable: there is no D-Bus, or no BlueZ on it.
        """
        try:
            bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        except (DBusFastError, OSError, ValueError) as error:
            raise RadioUnavailable(without_bus(error)) from error
        self._bus = bus
        self._watch = background(self._wait(bus), "bluez-bus")
        bus.add_message_handler(self._heard)
        try:
            for rule in RULES:
                await self._ask(DAEMON, "/org/freedesktop/DBus", DAEMON, "AddMatch", "s", rule)
            await self._learn()
            self.there = True
        except CallFailed as error:
            await self.close()
            raise RadioUnavailable(without_bluez(error.name)) from error
        return bus

    async def close(self) -> None:
        """Disconnect; safe to call again."""
        bus, self._bus = self._bus, None
        if self._watch is not None:
            self._watch.cancel()
        self.there = False
        self._objects.clear()
        if bus is not None:
            bus.disconnect()

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> list[Any]:
        """Call a method of BlueZ's, and return what it returns.

        Raises:
            CallFailed: it refused, or is not there any more.
        """
        return await self._ask(BLUEZ, path, interface, member, signature, *body)

    def get(self, path: str, interface: str, name: str) -> object:
        """A property as it was last told; None if there is none."""
        return self._objects.get(path, {}).get(interface, {}).get(name)

    def interfaces(self, path: str) -> dict[str, dict[str, Any]]:
        """The properties of an object, by interface; nothing if there is none."""
        return self._objects.get(path, {})

    def having(self, *interfaces: str) -> list[str]:
        """The paths of all objects that have these interfaces, in order."""
        return sorted(
            path
            for path, known in self._objects.items()
            if all(interface in known for interface in interfaces)
        )

    async def _wait(self, bus: MessageBus) -> None:
        with contextlib.suppress(Exception):  # how it ended is all the same
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self.lost, self.there = True, False
        self._objects.clear()
        self._changed()

    async def _learn(self) -> None:
        self._objects.clear()
        (objects,) = await self.call("/", OBJECTS, "GetManagedObjects")
        for path, interfaces in objects.items():
            self._objects[path] = {name: _plain(values) for name, values in interfaces.items()}

    async def _ask(
        self, to: str, path: str, interface: str, member: str, signature: str, *body: object
    ) -> list[Any]:
        if self._bus is None or not self._bus.connected:
            raise CallFailed("not connected to D-Bus")
        message = Message(
            destination=to,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=MessageFlag.NO_AUTOSTART,  # starting it takes D-Bus up to 25 s where it cannot
        )
        try:
            async with asyncio.timeout(CALL_S):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise CallFailed(f"no answer to {member} in {CALL_S:.0f} s") from None
        except (DBusFastError, OSError, EOFError) as error:
            raise CallFailed(f"{error}") from error
        if reply.message_type is MessageType.ERROR:
            said = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            name = reply.error_name or ""
            raise CallFailed(f"{name} {said}".strip(), name)
        return list(reply.body)

    def _heard(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        match message.member:
            case "InterfacesAdded" if message.interface == OBJECTS:
                path, interfaces = message.body
                known = self._objects.setdefault(path, {})
                known.update({name: _plain(values) for name, values in interfaces.items()})
            case "InterfacesRemoved" if message.interface == OBJECTS:
                path, names = message.body
                known = self._objects.get(path, {})
                for name in names:
                    known.pop(name, None)
                if not known:
                    self._objects.pop(path, None)
            case "PropertiesChanged" if message.path in self._objects:
                interface, values, gone = message.body
                properties = self._objects[message.path].setdefault(interface, {})
                properties.update(_plain(values))
                for name in gone:
                    properties.pop(name, None)
            case "NameOwnerChanged" if message.body and message.body[0] == BLUEZ:
                self.there = bool(message.body[2])
                if not self.there:
                    self._objects.clear()  # bluetoothd ended; what comes back is told
            case _:
                return
        self._changed()


def _plain(values: dict[str, Variant]) -> dict[str, Any]:
    return {name: value.value for name, value in values.items()}
