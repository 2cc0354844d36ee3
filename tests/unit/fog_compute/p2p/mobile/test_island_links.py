"""Two meshes joined through the mixnet, and a browser in one of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from fog_compute.clock import SystemClock
from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    LinkDown,
    LinkSource,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent
from fog_compute.p2p.bitchat.mesh.news import News, PeerNear, SayAll, TextHeard
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import packet
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile.island_links import IslandLinks
from fog_compute.p2p.mobile.links import LinkNews
from fog_compute.p2p.mobile.unified_mobile_bridge import UnifiedMobileBridge
from fog_compute.p2p.mobile.web_links import WebLinks
from fog_compute.testing import ManualClock
from fog_compute.testing.mixnet import MemoryMixnet
from tests.unit.fog_compute.p2p.htx.test_client import Person

ADA, BOB = "a" * 64, "b" * 64


class Node:
    """A node of the mesh in real time, whose links are those of a bridge."""

    def __init__(self, seed: int, name: str) -> None:
        self.mesh = Mesh(Identity.new(random.Random(seed).randbytes), name, random.Random(seed))
        self.news: list[News] = []
        self.links: LinkSource
        self._wake: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._zero = SystemClock().now().timestamp() - self._loop.time()

    def handle(self, event: MeshEvent) -> None:
        for action in self.mesh.handle(event, self._loop.time() + self._zero):
            match action:
                case SendFrame():
                    self.links.send(action)
                case Disconnect(link):
                    self.links.disconnect(link)
                case WakeAt(at):
                    if self._wake is not None:
                        self._wake.cancel()
                    self._wake = self._loop.call_at(at - self._zero, self.handle, Wake())
                case _:
                    self.news.append(action)

    def end(self) -> None:
        if self._wake is not None:
            self._wake.cancel()

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.news if isinstance(one, TextHeard)]

    @property
    def near(self) -> set[str]:
        return {one.announce.nickname for one in self.news if isinstance(one, PeerNear)}


class Page:
    """What a page does: one link to the bridge."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.says: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def start(self) -> None:
        self.node.handle(LinkUp(1, 512, initiated=True))

    async def stop(self) -> None:
        self.says.put_nowait(None)

    def owns(self, link: int) -> bool:
        return link == 1

    def send(self, frame: SendFrame) -> None:
        self.says.put_nowait(frame.data)
        sent = FrameSent(1, frame.token, ok=True)
        asyncio.get_running_loop().call_soon(self.node.handle, sent)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        raise AssertionError("the bridge breaks the rules")


class PageSocket:
    """The bridge's side of it."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def receive(self) -> bytes | str | None:
        return await self._page.says.get()

    async def send(self, data: bytes) -> bool:
        self._page.node.handle(FrameReceived(1, data))
        return True

    async def close(self, reason: str) -> None:
        raise AssertionError(f"the page is shown out: {reason}")


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():
            await asyncio.sleep(0.002)


@pytest.mark.asyncio
async def test_inv_p2p_32_a_browser_is_heard_on_an_island_far_away(tmp_path: Path) -> None:
    """INV-P2P-32."""
    network = MemoryMixnet()
    ada, bob = (Person(name, network, tmp_path) for name in ("ada", "bob"))
    near, far, page = Node(1, "ada"), Node(2, "bob"), Node(3, "page")
    for person in (ada, bob):
        await person.htx.initialize()
    ada.knows(bob)
    bob.knows(ada)
    islands = [
        IslandLinks(near.handle, ada.htx, [bob.fingerprint]),
        IslandLinks(far.handle, bob.htx, [ada.fingerprint]),
    ]
    ada.htx.on_carried, bob.htx.on_carried = (one.take for one in islands)
    web = WebLinks(near.handle)
    near.links = UnifiedMobileBridge([web, islands[0]])
    far.links = UnifiedMobileBridge([islands[1]])
    try:
        await near.links.start()
        await far.links.start()
        await until(lambda: bool(islands[0].joined and islands[1].joined))
        page.links = browser = Page(page)
        joined = asyncio.create_task(web.join(PageSocket(browser)))
        await page.links.start()
        await until(lambda: "page" in far.near)

        page.handle(SayAll("1", "from a page"))
        await until(lambda: far.texts == ["from a page"])
        far.handle(SayAll("2", "from far away"))
        await until(lambda: page.texts == ["from far away"])

        assert near.texts == ["from a page", "from far away"]
        assert near.mesh.counts.get("dropped_malformed", 0) == 0
        await page.links.stop()
        await joined
    finally:
        for node in (near, far, page):
            node.end()
        await near.links.stop()
        await far.links.stop()
        await ada.htx.shutdown()
        await bob.htx.shutdown()


class Pair:
    """The links of two people, each other's carrier."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.news: dict[str, list[LinkNews]] = {ADA: [], BOB: []}
        self.works = True
        self.carried = 0
        self.links = {
            me: IslandLinks(
                self.news[me].append, Road(self, me), [other], clock=self.clock, rng=Random(1)
            )
            for me, other in ((ADA, BOB), (BOB, ADA))
        }

    async def run(self, seconds: float) -> None:
        for _ in range(5):
            await settled()
            await self.clock.advance(seconds / 5)
        await settled()

    def frames(self, me: str) -> list[bytes]:
        return [one.data for one in self.news[me] if isinstance(one, FrameReceived)]


class Road:
    """The way from one of a pair to the other."""

    def __init__(self, pair: Pair, me: str) -> None:
        self._pair = pair
        self._me = me

    async def carry(self, destination: str, body: bytes) -> bool:
        await asyncio.sleep(0)
        if self._pair.works:
            self._pair.carried += 1
            self._pair.links[destination].take(self._me, body)
        return self._pair.works


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_frames_travel_together_and_those_of_a_failed_bundle_go_again() -> None:
    pair = Pair()
    for links in pair.links.values():
        await links.start()
        await links.start()
    await pair.run(5)
    ups = [one for one in pair.news[ADA] if isinstance(one, LinkUp)]
    assert len(ups) == 1
    assert pair.links[BOB].joined == {ADA}

    packets = [text(f"{number}", pair.clock) for number in range(7)]
    before, pair.works = pair.carried, False
    for token, said in enumerate(packets):
        pair.links[ADA].send(SendFrame(ups[0].link, said, token))
    await pair.run(1)
    told = [one for one in pair.news[ADA] if isinstance(one, FrameSent)]
    assert told == [FrameSent(ups[0].link, token, ok=True) for token in range(7)]
    assert pair.frames(BOB) == []
    pair.works = True
    await pair.run(5)
    assert pair.frames(BOB) == packets
    assert pair.carried == before + 1

    for links in pair.links.values():
        await links.stop()
        await links.stop()
    assert pair.news[ADA][-1] == LinkDown(ups[0].link)
    assert isinstance(pair.news[BOB][-1], LinkDown)


@pytest.mark.asyncio
async def test_a_link_that_the_mesh_ends_stays_down_for_a_while() -> None:
    pair = Pair()
    for links in pair.links.values():
        await links.start()
    await pair.run(5)
    (up,) = (one for one in pair.news[ADA] if isinstance(one, LinkUp))

    pair.links[ADA].disconnect(up.link)
    await pair.run(20)

    assert pair.news[ADA][-1] == LinkDown(up.link)
    assert not pair.links[ADA].joined
    assert not pair.links[BOB].joined
    await pair.run(120)
    assert pair.links[ADA].joined == {BOB}
    for links in pair.links.values():
        await links.stop()


def text(said: str, clock: ManualClock) -> bytes:
    return packet(Kind.MESSAGE, bytes(8), int(clock.now().timestamp() * 1000), said.encode()).wire


@pytest.mark.asyncio
async def test_what_is_carried_is_no_message_and_comes_in_time_or_not_at_all(
    tmp_path: Path,
) -> None:
    network = MemoryMixnet()
    ada, bob = (Person(name, network, tmp_path) for name in ("ada", "bob"))
    for person in (ada, bob):
        await person.htx.initialize()
    ada.knows(bob)
    bob.knows(ada)
    heard: list[tuple[str, bytes]] = []

    assert await ada.htx.carry(bob.fingerprint, b"nobody listens")
    await bob.dropped("carried")
    bob.htx.dropped.clear()
    bob.htx.on_carried = lambda sender, body: heard.append((sender, body))
    assert await ada.htx.carry(bob.fingerprint, b"now")
    await until(lambda: heard == [(ada.fingerprint, b"now")])
    await bob.clock.advance(70)
    assert await ada.htx.carry(bob.fingerprint, b"from before")
    await bob.dropped("late")
    assert heard == [(ada.fingerprint, b"now")]
    network.trouble = "the cable is out"
    assert not await ada.htx.carry(bob.fingerprint, b"now")
    for person in (ada, bob):
        await person.htx.shutdown()
    assert not await ada.htx.carry(bob.fingerprint, b"now")


class Source:
    """A source of links that cannot start, or has one."""

    def __init__(self, first: int, trouble: str = "") -> None:
        self.first = first
        self.trouble = trouble
        self.done: list[object] = []

    async def start(self) -> None:
        if self.trouble:
            raise TransportUnavailable(self.trouble)

    async def stop(self) -> None:
        self.done.append("stop")

    def owns(self, link: int) -> bool:
        return link == self.first

    def send(self, frame: SendFrame) -> None:
        self.done.append(frame)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        self.done.append((link, leave_s))


@pytest.mark.asyncio
async def test_what_cannot_start_leaves_the_others_alone() -> None:
    bad, good = Source(3, "the place is taken"), Source(5)
    bridge = UnifiedMobileBridge([bad, good])

    await bridge.start()

    assert bridge.troubles == ("the place is taken",)
    assert bridge.owns(5)
    assert not bridge.owns(1)
    bridge.send(SendFrame(5, b"x", 1))
    bridge.disconnect(5, 2.0)
    await bridge.stop()
    assert good.done == [SendFrame(5, b"x", 1), (5, 2.0), "stop"]


class Failing:
    """A carrier with a fault at first, and then none."""

    def __init__(self) -> None:
        self.asked = 0

    async def carry(self, destination: str, body: bytes) -> bool:
        del destination, body
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("a fault")
        return True


@pytest.mark.asyncio
async def test_fault_of_the_carrier_is_a_bundle_that_did_not_leave() -> None:
    """INV-P2P-34: it is tried again, and nobody is waited for for ever."""
    clock, carrier = ManualClock(), Failing()
    links = IslandLinks(lambda _: None, carrier, [BOB], clock=clock, rng=Random(1))

    await links.start()
    await settled()
    assert (carrier.asked, links.counts["not_posted"]) == (1, 1)
    await clock.advance(2.0)
    await settled()

    assert carrier.asked == 2
    await links.stop()
