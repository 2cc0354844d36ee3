"""What an adapter of BlueZ's offers for us: our service, and the advertisement of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, Protocol

from fog_compute.p2p.bitchat.radio.bluez_reasons import (
    ADVERTISING,
    GATT,
    CallFailed,
    without_peripheral,
)
from fog_compute.p2p.bitchat.radio.interface import RadioUnavailable

__all__ = ["ADVERTISEMENT_PATH", "APPLICATION_PATH", "BluezOffer", "Calls"]

APPLICATION_PATH: Final = "/org/fogcompute/bitchat"
ADVERTISEMENT_PATH: Final = f"{APPLICATION_PATH}/advertisement0"

VISIBLE_S: Final = 0.2
"""Seconds until others see a service that was registered."""

AGAIN_S: Final = 5.0
"""Seconds until an adapter is asked again that did not go on advertising."""


class Calls(Protocol):
    """What is asked of the connection to BlueZ."""

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> list[Any]:
        """Call a method of BlueZ's.

        Raises:
            CallFailed: it refused, or is not there any more.
        """
        ...


class BluezOffer:
    """Our part of one adapter, from when it is taken until it goes.

    Attributes:
        adapter: its name.
        limited_because: why others cannot connect; None if they can.
        advertised: whether others can find us.
    """

    __slots__ = ("_bus", "_busy", "_over", "_path", "adapter", "advertised", "limited_because")

    def __init__(self, bus: Calls, adapter: str) -> None:
        """Make one that offers nothing yet."""
        self._bus: Final = bus
        self._busy: Final = asyncio.Lock()
        self._over = False
        self._path: Final = f"/org/bluez/{adapter}"
        self.adapter: Final = adapter
        self.limited_because: str | None = "the service is not registered yet"
        self.advertised = False

    async def register(self, managers: dict[str, dict[str, Any]]) -> None:
        """Register the service; `limited_because` says whether that worked.

        What was registered stays so while an adapter is switched off, and cannot be registered
        twice.

        Args:
            managers: the properties of the adapter, by interface.
        """
        for manager, member, ours in (
            (ADVERTISING, "UnregisterAdvertisement", ADVERTISEMENT_PATH),
            (GATT, "UnregisterApplication", APPLICATION_PATH),
        ):
            with contextlib.suppress(CallFailed):
                await self._bus.call(self._path, manager, member, "o", ours)
        self.limited_because = without_peripheral(self.adapter, managers)
        if self.limited_because is not None:
            return
        try:
            await self._bus.call(
                self._path, GATT, "RegisterApplication", "oa{sv}", APPLICATION_PATH, {}
            )
        except CallFailed as error:
            self.limited_because = f"others cannot connect: BlueZ refuses our service ({error})"
            return
        await asyncio.sleep(VISIBLE_S)

    async def advertise(self, on: bool) -> None:
        """Let others find us, or not.

        Raises:
            RadioUnavailable: the adapter refuses.
        """
        async with self._busy:
            if on == self.advertised:
                return
            if on and self.limited_because is not None:
                raise RadioUnavailable(self.limited_because)
            try:
                if on:
                    await self._register_advertisement()
                self.advertised = on
                if not on:
                    await self._unregister_advertisement()
            except CallFailed as error:
                raise RadioUnavailable(f"{self.adapter} does not advertise: {error}") from error

    async def go_on(self) -> None:
        """Advertise again after somebody connected: BlueZ is silent until they leave.

        An adapter that cannot while somebody is connected is asked again and again.
        """
        while True:
            async with self._busy:
                if self._over or not self.advertised:
                    return
                with contextlib.suppress(CallFailed):
                    await self._unregister_advertisement()
                try:
                    await self._register_advertisement()
                    return
                except CallFailed:
                    pass
            await asyncio.sleep(AGAIN_S)

    def end(self) -> None:
        """The adapter is gone, or let go of."""
        self._over = True
        self.advertised = False

    async def _register_advertisement(self) -> None:
        await self._bus.call(
            self._path, ADVERTISING, "RegisterAdvertisement", "oa{sv}", ADVERTISEMENT_PATH, {}
        )

    async def _unregister_advertisement(self) -> None:
        await self._bus.call(
            self._path, ADVERTISING, "UnregisterAdvertisement", "o", ADVERTISEMENT_PATH
        )
