"""The driver of who has no Bluetooth, or wants none: it touches nothing, and says so."""

from __future__ import annotations

import asyncio
from typing import Final

from fog_compute.p2p.bitchat.radio.interface import (
    ConnectFailed,
    Link,
    RadioEvent,
    RadioState,
    RadioUnavailable,
)

__all__ = ["OffRadio"]

OFF: Final = "Bluetooth is off here: FOG_CHAT_BLE=1 lets it be used"


class OffRadio:
    """A `fog_compute.p2p.bitchat.radio.interface.Radio` that cannot be started."""

    def __init__(self, because: str = OFF) -> None:
        """Say that there is none ``because`` of this."""
        self._because: Final = because

    async def start(self) -> None:
        """Refuse."""
        raise RadioUnavailable(self._because)

    async def stop(self) -> None:
        """Nothing runs."""

    async def scan(self, on: bool) -> None:
        """Refuse."""
        del on
        raise RadioUnavailable(self._because)

    async def advertise(self, on: bool) -> None:
        """Refuse."""
        del on
        raise RadioUnavailable(self._because)

    async def connect(self, address: str) -> None:
        """Refuse."""
        del address
        raise ConnectFailed(self._because)

    async def disconnect(self, link: Link) -> None:
        """There is no link."""

    async def send(self, link: Link, data: bytes) -> bool:
        """There is no link."""
        del link, data
        return False

    async def next(self) -> RadioEvent:
        """Wait; nothing happens."""
        never: asyncio.Future[RadioEvent] = asyncio.get_running_loop().create_future()
        return await never

    def state(self) -> RadioState:
        """It can do nothing."""
        return RadioState(central=False, peripheral=False, unavailable_because=self._because)
