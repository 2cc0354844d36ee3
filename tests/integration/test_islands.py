"""Two meshes joined through a real local net, each with a browser in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fog_compute.p2p.bitchat.mesh.news import SayAll
from fog_compute.p2p.mobile.island_links import IslandLinks
from fog_compute.p2p.mobile.unified_mobile_bridge import UnifiedMobileBridge
from fog_compute.p2p.mobile.web_links import WebLinks
from tests.integration.test_people import Person
from tests.unit.fog_compute.p2p.mobile.test_island_links import Node, Page, PageSocket

MESSAGES = 40


async def until(met: Callable[[], bool]) -> None:
    """Wait for something; an announce, which tells who is near, may take half a minute."""
    async with asyncio.timeout(100):
        while not met():
            await asyncio.sleep(0.01)


class Place:
    """A person's machine, which is in a mesh with one page, and the page."""

    def __init__(self, seed: int, person: Person, other: Person) -> None:
        self.person = person
        self.node, self.page = Node(seed, f"bridge {seed}"), Node(seed + 10, f"page {seed}")
        self.islands = IslandLinks(self.node.handle, person.htx, [other.identity.fingerprint])
        person.htx.on_carried = self.islands.take
        self.web = WebLinks(self.node.handle)
        self.node.links = UnifiedMobileBridge([self.web, self.islands])
        self.page.links = self.link = Page(self.page)
        self._joined: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.node.links.start()
        self._joined = asyncio.create_task(self.web.join(PageSocket(self.link)))
        await self.link.start()

    async def stop(self) -> None:
        await self.link.stop()
        if self._joined is not None:
            await self._joined
        await self.node.links.stop()
        self.node.end()
        self.page.end()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_inv_p2p_35_pages_of_two_islands_hear_each_other_once(
    tmp_path: Path, localnet: Path
) -> None:
    """INV-P2P-35."""
    ada, bob = (Person(name, tmp_path, localnet) for name in ("ada", "bob"))
    for person in (ada, bob):
        await person.htx.initialize()
    ada.knows(bob)
    bob.knows(ada)
    places = [Place(1, ada, bob), Place(2, bob, ada)]
    said: list[list[str]] = [[], []]
    try:
        for place in places:
            await place.start()
        one, other = (place.page for place in places)
        await until(lambda: "page 1" in other.near and "page 2" in one.near)

        for number in range(MESSAGES):
            for place, texts in zip(places, said, strict=True):
                texts.append(f"{number} of {place.page.mesh.peer_id.hex()}")
                place.page.handle(SayAll(texts[-1], texts[-1]))
            await asyncio.sleep(0.05)  # as fast as people at a party
            if number == MESSAGES // 2:
                await ada.htx.shutdown()
                await asyncio.sleep(0.5)
                await ada.htx.initialize()
        await until(lambda: len(one.texts) >= MESSAGES and len(other.texts) >= MESSAGES)
        await asyncio.sleep(3)  # for a second copy, if there were one

        assert sorted(one.texts) == sorted(said[1])
        assert sorted(other.texts) == sorted(said[0])
        assert places[0].islands.counts["refused_malformed"] == 0
    finally:
        for place in places:
            await place.stop()
        for person in (ada, bob):
            await person.close()
