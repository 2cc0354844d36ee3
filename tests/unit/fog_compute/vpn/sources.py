"""Clients in memory: those of all levels, and sessions' own."""

from __future__ import annotations

import asyncio

import betanet
from fog_compute.levels import PrivacyLevel
from fog_compute.testing import MemoryChannel, MemoryNetwork
from fog_compute.vpn.network import ClientHealth, check_level


class Source:
    """A source of channels, of which each can be closed under those who use it.

    Attributes:
        network: where the channels meet.
        open: channels by level and owner.
        opened: how often channels were opened.
        shortages: what the network lacks, by the number of hops.
    """

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.open: dict[tuple[PrivacyLevel, str], MemoryChannel] = {}
        self.opened: list[tuple[PrivacyLevel, str]] = []
        self.shortages: dict[int, betanet.PathShortage] = {}

    async def channel(self, level: PrivacyLevel, owner: str = "") -> MemoryChannel:
        await asyncio.sleep(0)
        key = (level, owner)
        check_level(self.shortages, level)
        if key not in self.open:
            self.open[key] = self.network.channel(f"me-{level.value}{owner}")
            self.opened.append(key)
        return self.open[key]

    def lack(self, *lengths: int) -> None:
        """Have no path of so many hops."""
        for hops in lengths:
            text = f"too few nodes for a path of {hops} hops: 6 of {hops}"
            self.shortages[hops] = betanet.PathShortage(hops, hops, 6, text)

    def health(self, level: PrivacyLevel, owner: str = "") -> ClientHealth | None:
        return ClientHealth() if (level, owner) in self.open else None

    async def leave(self, level: PrivacyLevel, owner: str) -> None:
        if (level, owner) in self.open:
            self.crash(level, owner)

    def crash(self, level: PrivacyLevel, owner: str = "") -> None:
        """Close a client under those who use it."""
        channel = self.open.pop((level, owner))
        channel.down = "the client is closed"
