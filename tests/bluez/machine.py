"""BlueZ within the guest: its daemon, adapters that are controllers of bumble's, and the air."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from bumble.controller import Controller
from bumble.hci import LeFeatureMask
from bumble.transport import open_transport
from dbus_fast import Variant

from fog_compute.p2p.bitchat.radio.bluez_bus import ADAPTER, BluezBus
from fog_compute.p2p.bitchat.radio.interface import RadioUnavailable
from fog_compute.testing.ether import Ether

BLUETOOTHD: Final = "/usr/libexec/bluetooth/bluetoothd"
PATIENCE_S: Final = 20


def address(number: int) -> str:
    """The public address of an adapter."""
    return f"00:AA:01:00:00:{number:02X}"


class Machine:
    """One bluetoothd, and adapters ``hci0``, ``hci1``, … as they are plugged in.

    Adapters are nodes 0, 1, … of the air; whoever else is on it has another number.
    """

    def __init__(self, folder: Path) -> None:
        self.air = Ether()
        self._folder = folder
        self._plugged: dict[int, tuple[Any, Controller]] = {}
        self._bus = BluezBus(lambda: None)
        self._daemon: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._bus.close()
        self.stop()
        for number in tuple(self._plugged):
            await self.unplug(number)

    async def plug(self, number: int) -> None:
        """Plug an adapter in: the kernel numbers them in that order."""
        assert number == min(set(range(9)) - set(self._plugged))
        hci = await open_transport("vhci")
        made = self.air.controller(number, hci.source, hci.sink, public=address(number))
        # It says that it hides addresses, and then answers the kernel as one that does not.
        made.le_features &= ~LeFeatureMask.LL_PRIVACY
        self._plugged[number] = hci, made

    async def unplug(self, number: int) -> None:
        """Pull an adapter out."""
        hci, controller = self._plugged.pop(number)
        self.air.unplug(controller)
        await hci.close()

    def controller(self, number: int) -> Controller:
        """What is behind an adapter."""
        return self._plugged[number][1]

    def begin(self) -> None:
        """Start bluetoothd."""
        with (self._folder / "bluetoothd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [BLUETOOTHD, "-n", "-d"], stdout=log, stderr=subprocess.STDOUT
            )

    def configure(self, text: str) -> None:
        """What bluetoothd reads when it starts the next time; as it comes from Debian if empty."""
        Path("/etc/bluetooth/main.conf").write_text(text, "ascii")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End bluetoothd, with force or without."""
        if self._daemon is not None:
            self._daemon.send_signal(how)
            self._daemon.wait(PATIENCE_S)
            self._daemon = None

    async def ready(self, *numbers: int) -> None:
        """Wait until these adapters are switched on."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self._bus.close()
                with contextlib.suppress(RadioUnavailable):
                    await self._bus.open()
                    if all(self.get(number, "Powered") for number in numbers):
                        return
                await asyncio.sleep(0.2)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await asyncio.sleep(0.05)

    def get(self, number: int, name: str) -> object:
        """A property of an adapter."""
        return self._bus.get(f"/org/bluez/hci{number}", ADAPTER, name)

    async def call(self, path: str, interface: str, member: str, *rest: Any) -> list[Any]:
        """Ask bluetoothd as somebody else would."""
        return await self._bus.call(path, interface, member, *rest)

    async def power(self, number: int, on: bool) -> None:
        """Switch an adapter on or off."""
        await self._bus.call(
            f"/org/bluez/hci{number}",
            "org.freedesktop.DBus.Properties",
            "Set",
            "ssv",
            ADAPTER,
            "Powered",
            Variant("b", on),
        )

    def advertisements(self, number: int) -> object:
        """How many advertisements are registered with an adapter."""
        manager = "org.bluez.LEAdvertisingManager1"
        return self._bus.get(f"/org/bluez/hci{number}", manager, "ActiveInstances")
