"""Why BlueZ gives us no Bluetooth, or only half of it, and what to do about it: decisions alone.

Errors are those of D-Bus and of BlueZ's pages ``org.bluez.*``; what keeps an adapter silent stands
in ``/sys/class/bluetooth`` (kernel: ``Documentation/ABI/stable/sysfs-class-rfkill``).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fog_compute.reading import read_file

__all__ = [
    "ADVERTISING",
    "GATT",
    "Block",
    "CallFailed",
    "choose",
    "read_block",
    "without_bluez",
    "without_bus",
    "without_peripheral",
]

GATT: Final = "org.bluez.GattManager1"
ADVERTISING: Final = "org.bluez.LEAdvertisingManager1"

SYSFS: Final = Path("/sys/class/bluetooth")

Adapters = Mapping[str, Mapping[str, object]]
"""Properties of adapters by name, such as ``hci0``."""

REFUSED: Final = (
    "this user may not use Bluetooth (usermod -aG bluetooth USER, and log in again; or allow "
    "org.bluez in /etc/dbus-1/system.d)"
)


class CallFailed(Exception):
    """BlueZ refused a call; the text is its error's name and message.

    Attributes:
        name: of the error; "" if there is no connection to D-Bus any more.
    """

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name: Final = name


class Block(enum.Enum):
    """Whether something keeps an adapter from sending."""

    NONE = "nothing"
    SOFT = "rfkill"
    HARD = "a switch"


def without_bus(error: Exception) -> str:
    """Why the system's D-Bus cannot be reached."""
    if isinstance(error, FileNotFoundError):
        found = "this machine has no system D-Bus, over which Bluetooth is reached"
        return f"{found}: install dbus and bluez, and start them"
    if isinstance(error, PermissionError):
        return "this user may not connect to the system D-Bus, over which Bluetooth is reached"
    why = type(error).__name__
    if isinstance(error, OSError):
        why = (error.strerror or why).lower()
    silent = "the system D-Bus, over which Bluetooth is reached, does not answer"
    return f"{silent} ({why}): see that dbus runs"


def without_bluez(name: str) -> str:
    """Why BlueZ does not answer, by the name of D-Bus's error; "" where it ended."""
    if name.endswith(".AccessDenied"):
        return REFUSED
    return (
        "no Bluetooth service runs here: plug an adapter in, install bluez, and start bluetoothd "
        "(systemctl start bluetooth)"
    )


def choose(
    adapters: Adapters, wanted: str, block: Callable[[str], Block]
) -> tuple[str, str | None]:
    """The adapter to use: its name and None, or "" and why there is none.

    Args:
        adapters: what BlueZ has.
        wanted: the name of the only one that will do; "" for the first that is switched on.
        block: what keeps one from sending.
    """
    if wanted and wanted not in adapters:
        return "", f"there is no Bluetooth adapter {wanted}: plug it in"
    if not adapters:
        return "", "this machine has no Bluetooth adapter: plug one in"
    names = [wanted] if wanted else sorted(adapters)
    for name in names:
        if adapters[name].get("Powered"):
            return name, None
    head = f"the Bluetooth adapter {names[0]} is switched off"
    match block(names[0]):
        case Block.HARD:
            return "", f"{head} by a switch of this machine: turn that on"
        case Block.SOFT:
            return "", f"{head} by rfkill: rfkill unblock bluetooth"
        case Block.NONE:
            return "", f"{head}: bluetoothctl power on"


def without_peripheral(name: str, managers: Mapping[str, Mapping[str, object]]) -> str | None:
    """Why others cannot find and connect to an adapter; None if they can, as far as is known.

    Args:
        name: of the adapter.
        managers: the properties of its object, by interface.
    """
    advertising = managers.get(ADVERTISING)
    if advertising is None or GATT not in managers:
        return f"others cannot connect to {name}: its BlueZ or its chip has no LE peripheral role"
    if not advertising.get("SupportedInstances", 1) and not advertising.get("ActiveInstances"):
        return f"others cannot find {name}: its chip has no room for an advertisement"
    return None


PAGE_BYTES: Final = 65_536
"""The most that a file of sysfs says to have; it says a page of memory, whatever is in it."""


def read_block(name: str, sysfs: Path = SYSFS) -> Block:
    """What keeps an adapter from sending, as the kernel says; nothing if it does not say."""
    for switch in sorted((sysfs / name).glob("rfkill*")):
        for kind, block in (("hard", Block.HARD), ("soft", Block.SOFT)):
            try:
                if read_file(switch / kind, PAGE_BYTES).strip() == b"1":
                    return block
            except (OSError, ValueError):
                continue  # the adapter went meanwhile
    return Block.NONE
