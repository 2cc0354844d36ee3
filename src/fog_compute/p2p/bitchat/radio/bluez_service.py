"""What BlueZ asks of whoever offers a Bluetooth service: objects on the system's D-Bus.

Imported by :mod:`fog_compute.p2p.bitchat.radio.bluez` alone, once dbus-fast is known to be there.
The interfaces are those of BlueZ's pages ``org.bluez.GattCharacteristic`` and
``org.bluez.LEAdvertisement``. Annotations are evaluated here, because dbus-fast reads D-Bus types
from them.
"""

import socket
from collections.abc import Callable
from typing import Annotated, Final, NoReturn

from dbus_fast import DBusError, PropertyAccess
from dbus_fast.annotations import (
    DBusBool,
    DBusBytes,
    DBusDict,
    DBusObjectPath,
    DBusSignature,
    DBusStr,
)
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from fog_compute.p2p.bitchat.radio.bluez_offer import APPLICATION_PATH
from fog_compute.p2p.bitchat.radio.interface import CHARACTERISTIC, MTU, SERVICE

__all__ = [
    "Advertisement",
    "Characteristic",
    "Service",
]

SERVICE_PATH: Final = f"{APPLICATION_PATH}/service0"
CHARACTERISTIC_PATH: Final = f"{SERVICE_PATH}/char0"

Strings = Annotated[list[str], DBusSignature("as")]
Acquired = Annotated[tuple[int, int], DBusSignature("hq")]


class Service(ServiceInterface):
    """The service."""

    def __init__(self) -> None:
        super().__init__("org.bluez.GattService1")

    @property
    def path(self) -> str:
        """Where it is exported."""
        return SERVICE_PATH

    @dbus_property(access=PropertyAccess.READ, name="UUID")
    def _uuid(self) -> DBusStr:
        return SERVICE

    @dbus_property(access=PropertyAccess.READ, name="Primary")
    def _primary(self) -> DBusBool:
        return True


class Characteristic(ServiceInterface):
    """The characteristic: writes come in by device, notifications go out through a socket.

    BlueZ takes one socket for each subscription, or one for all of them, as its versions differ.
    """

    def __init__(
        self,
        written: Callable[[str, bytes, int], None],
        subscribed: Callable[[str, int, socket.socket], None],
    ) -> None:
        """Make a characteristic.

        Args:
            written: is told a device's path, what it wrote, and its connection's ATT MTU.
            subscribed: is given a device's path, its ATT MTU, and a socket: each packet of bytes
                written to it becomes a notification.
        """
        super().__init__("org.bluez.GattCharacteristic1")
        self._written: Final = written
        self._subscribed: Final = subscribed

    @property
    def path(self) -> str:
        """Where it is exported."""
        return CHARACTERISTIC_PATH

    @dbus_property(access=PropertyAccess.READ, name="UUID")
    def _uuid(self) -> DBusStr:
        return CHARACTERISTIC

    @dbus_property(access=PropertyAccess.READ, name="Service")
    def _service(self) -> DBusObjectPath:
        return SERVICE_PATH

    @dbus_property(access=PropertyAccess.READ, name="Flags")
    def _flags(self) -> Strings:
        return ["read", "write", "write-without-response", "notify"]

    @dbus_property(access=PropertyAccess.READ, name="Notifying")
    def _notifying(self) -> DBusBool:
        return False

    @dbus_property(access=PropertyAccess.READ, name="NotifyAcquired")
    def _notify_acquired(self) -> DBusBool:
        return False  # that it is there at all makes BlueZ ask for a socket

    @dbus_method(name="ReadValue")
    def _read_value(self, _options: DBusDict) -> DBusBytes:
        return b""

    @dbus_method(name="WriteValue")
    def _write_value(self, value: DBusBytes, options: DBusDict) -> None:
        device, mtu = _whose(options)
        if device:
            self._written(device, bytes(value), mtu)

    @dbus_method(name="AcquireNotify")
    def _acquire_notify(self, options: DBusDict) -> Acquired:
        device, mtu = _whose(options)
        if not device:
            _refuse("a subscription names its device")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        self._subscribed(device, mtu, ours)
        return theirs.detach(), mtu

    @dbus_method(name="StopNotify")
    def _stop_notify(self) -> None:
        """BlueZ closes the socket, which says the same."""


class Advertisement(ServiceInterface):
    """The advertisement: the service's UUID, and no name."""

    def __init__(self, released: Callable[[], None]) -> None:
        """Make one; ``released`` is called when BlueZ has dropped it."""
        super().__init__("org.bluez.LEAdvertisement1")
        self._released: Final = released

    @dbus_property(access=PropertyAccess.READ, name="Type")
    def _type(self) -> DBusStr:
        return "peripheral"

    @dbus_property(access=PropertyAccess.READ, name="ServiceUUIDs")
    def _service_uuids(self) -> Strings:
        return [SERVICE]

    @dbus_property(access=PropertyAccess.READ, name="Discoverable")
    def _discoverable(self) -> DBusBool:
        return True

    @dbus_method(name="Release")
    def _release(self) -> None:
        self._released()


def _whose(options: DBusDict) -> tuple[str, int]:
    """The path of the device that a call is about, and its ATT MTU; "" if BlueZ names none."""
    device, mtu = options.get("device"), options.get("mtu")
    return (
        str(device.value) if device is not None else "",
        int(mtu.value) if mtu is not None else MTU,
    )


def _refuse(reason: str) -> NoReturn:
    raise DBusError("org.bluez.Error.Failed", reason)
