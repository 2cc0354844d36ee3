"""Two meshes joined through the mixnet, and a browser in one of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.mesh import Mesh, MeshEvent
from fog_compute.p2p.bitchat.news import News, PeerNear, SayAll, TextHeard
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile import island_links
from fog_compute.p2p.mobile.island_links import BATCH_BYTES, IslandLinks, pack, unpack
from fog_compute.p2p.mobile.links import LinkNews, LinkSource
from fog_compute.p2p.mobile.unified_mobile_bridge import UnifiedMobileBridge
from fog_compute.p2p.mobile.web_links import WebLinks
from fog_compute.testing import ManualClock
from fog_compute.testing.mixnet import MemoryMixnet
from tests.unit.fog_compute.p2p.htx.test_client import Person

TOKEN = "t" * 43
ADA, BOB = "a" * 64, "b" * 64


class Node:
    """A node of the mesh in real time, whose links are those of a bridge."""

    def __init__(self, seed: int, name: str) -> None:
        self.mesh = Mesh(Identity.new(random.Random(seed).randbytes), name, random.Random(seed))
        self.news: list[News] = []
        self.links: LinkSource
        self._wake: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._zero = 1_700_000_000 - self._loop.time()

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


class Browser:
    """What a page does: one link to the bridge, over a socket."""

    def __init__(self, node: Node, socket: ClientConnection) -> None:
        self._node = node
        self._socket = socket
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._reading = asyncio.create_task(self._read())
        self._node.handle(LinkUp(1, 16_384, initiated=True))

    async def stop(self) -> None:
        self._reading.cancel()

    def owns(self, link: int) -> bool:
        return link == 1

    def send(self, frame: SendFrame) -> None:
        task = asyncio.create_task(self._socket.send(frame.data))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        asyncio.get_running_loop().call_soon(self._node.handle, FrameSent(1, frame.token, ok=True))

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        raise AssertionError("the bridge breaks the rules")

    async def _read(self) -> None:
        async for data in self._socket:
            assert isinstance(data, bytes)
            self._node.handle(FrameReceived(1, data))


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
    web = WebLinks(near.handle, TOKEN)
    near.links = UnifiedMobileBridge([web, islands[0]])
    far.links = UnifiedMobileBridge([islands[1]])
    try:
        await near.links.start()
        await far.links.start()
        async with connect(
            f"ws://127.0.0.1:{web.port}",
            subprotocols=[Subprotocol("bitchat"), Subprotocol(f"token.{TOKEN}")],
            proxy=None,
        ) as socket:
            page.links = Browser(page, socket)
            await page.links.start()
            await until(lambda: "page" in far.near and "bob" in page.near)

            page.handle(SayAll("1", "from a page"))
            await until(lambda: far.texts == ["from a page"])
            far.handle(SayAll("2", "from far away"))
            await until(lambda: page.texts == ["from far away"])

            assert near.texts == ["from a page", "from far away"]
            assert near.mesh.counts.get("dropped_malformed", 0) == 0
            await page.links.stop()
    finally:
        for node in (near, far, page):
            node.end()
        await near.links.stop()
        await far.links.stop()
        await ada.htx.shutdown()
        await bob.htx.shutdown()


class Post:
    """A carrier that notes what it is given."""

    def __init__(self) -> None:
        self.carried: list[tuple[str, list[bytes] | None]] = []
        self.works = True

    async def carry(self, destination: str, body: bytes) -> bool:
        self.carried.append((destination, unpack(body)))
        return self.works


@pytest.mark.asyncio
async def test_frames_travel_together_and_their_fate_is_told() -> None:
    news: list[LinkNews] = []
    post, clock = Post(), ManualClock()
    links = IslandLinks(news.append, post, [BOB, BOB], clock=clock)
    await links.start()
    await links.start()
    (up,) = news
    assert isinstance(up, LinkUp)

    for token in range(7):
        links.send(SendFrame(up.link, bytes([token]) * 3000, token))
    await settled()
    await clock.advance(1)
    await settled()
    await clock.advance(1)
    await settled()

    assert [len(frames or ()) for _, frames in post.carried] == [5, 2]
    assert {to for to, _ in post.carried} == {BOB}
    assert news[1:] == [FrameSent(up.link, token, ok=True) for token in range(7)]
    post.works = False
    links.send(SendFrame(up.link, b"x", 7))
    await settled()
    await clock.advance(1)
    await settled()
    assert FrameSent(up.link, 7, ok=False) in news
    await links.stop()
    await links.stop()
    assert news[-1] == LinkDown(up.link)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_an_island_gets_and_gives_no_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(island_links, "FRAMES_AT_ONCE", 4.0)
    monkeypatch.setattr(island_links, "QUEUED", 2)
    news: list[LinkNews] = []
    links = IslandLinks(news.append, Post(), [BOB], clock=ManualClock())
    await links.start()
    (up,) = news
    assert isinstance(up, LinkUp)
    for token in range(6):
        links.send(SendFrame(up.link, b"x", token))
    links.send(SendFrame(up.link, bytes(5000), 6))
    links.send(SendFrame(up.link + 1, b"x", 7))
    await settled()

    assert links.dropped == {"full": 2, "rate": 2, "link": 2}
    links.take(BOB, pack([b"frame"] * 6))
    assert sum(isinstance(one, FrameReceived) for one in news) == 4
    links.dropped.clear()
    links.take(BOB, b"\x00")
    links.take(ADA, pack([b"frame"]))
    links.disconnect(up.link)
    links.take(BOB, pack([b"frame"]))
    assert links.dropped == {"form": 1, "stranger": 2}
    assert news[-1] == LinkDown(up.link)
    await links.stop()


def test_a_batch_that_is_none_is_refused_whole() -> None:
    frames = [b"a", b"b" * 4096, b"c" * 300]

    whole = pack(frames)

    assert unpack(whole) == frames
    assert unpack(b"") == []
    for length in range(1, len(whole)):
        if length not in (3, 3 + 2 + 4096):
            assert unpack(whole[:length]) is None
    for bad in (b"\x00\x00", pack([bytes(4097)]), bytes(BATCH_BYTES + 1), b"\x00"):
        assert unpack(bad) is None
    rng = random.Random(1)
    for _ in range(2000):
        unpack(rng.randbytes(rng.randrange(99)))


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


@pytest.mark.asyncio
async def test_what_cannot_start_leaves_the_others_alone() -> None:
    news: list[LinkNews] = []
    bad = WebLinks(news.append, TOKEN, host="192.0.2.1")
    islands = IslandLinks(news.append, Post(), [BOB], clock=ManualClock())
    bridge = UnifiedMobileBridge([bad, islands])

    await bridge.start()

    assert "not loopback" in bridge.troubles[0]
    (up,) = news
    assert isinstance(up, LinkUp)
    assert bridge.owns(up.link)
    assert not bridge.owns(1)
    bridge.send(SendFrame(up.link, b"x", 1))
    bridge.disconnect(up.link)
    assert news[-1] == LinkDown(up.link)
    await bridge.stop()
    with pytest.raises(TransportUnavailable):
        await bad.start()
