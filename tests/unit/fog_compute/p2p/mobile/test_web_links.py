"""Browsers as peers of the mesh: their links, over sockets in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile import web_links
from fog_compute.p2p.mobile.links import LinkNews
from fog_compute.p2p.mobile.web_links import LONGEST_MESSAGE, WebLinks
from fog_compute.testing import ManualClock

pytestmark = pytest.mark.asyncio


class Page:
    """The socket of a browser."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self.got: list[bytes] = []
        self.closed = ""
        self.reads = asyncio.Event()
        self.reads.set()

    async def receive(self) -> bytes | str | None:
        return await self.says.get()

    async def send(self, data: bytes) -> bool:
        await self.reads.wait()
        self.got.append(data)
        return data != b"gone"

    async def close(self, reason: str) -> None:
        self.closed = reason


class Heard:
    """The links, what they told, and the pages that are in."""

    def __init__(self) -> None:
        self.news: list[LinkNews] = []
        self.links = WebLinks(self.news.append, clock=ManualClock())
        self.joins: list[asyncio.Task[None]] = []

    def join(self) -> Page:
        page = Page()
        self.joins.append(asyncio.create_task(self.links.join(page)))
        return page

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not met():
                await asyncio.sleep(0)

    async def up(self, number: int = 1) -> int:
        await self.until(lambda: len(self.ups) >= number)
        return self.ups[number - 1].link

    @property
    def frames(self) -> list[bytes]:
        return [one.data for one in self.news if isinstance(one, FrameReceived)]

    @property
    def ups(self) -> list[LinkUp]:
        return [one for one in self.news if isinstance(one, LinkUp)]


@asynccontextmanager
async def open_links() -> AsyncIterator[Heard]:
    heard = Heard()
    await heard.links.start()
    try:
        yield heard
    finally:
        await heard.links.stop()
        await asyncio.gather(*heard.joins)


async def test_a_browser_is_a_link_that_carries_packets_both_ways() -> None:
    async with open_links() as heard:
        page = heard.join()
        link = await heard.up()
        assert heard.links.owns(link)
        assert not heard.links.owns(1)
        assert not heard.ups[0].initiated
        page.says.put_nowait(b"packet")
        await heard.until(lambda: heard.frames == [b"packet"])

        heard.links.send(SendFrame(link, b"answer", 7))
        heard.links.send(SendFrame(link, bytes(LONGEST_MESSAGE + 1), 8))
        heard.links.send(SendFrame(link + 1, b"nobody", 9))
        await heard.until(lambda: FrameSent(link, 7, ok=True) in heard.news)
        await heard.until(lambda: FrameSent(link + 1, 9, ok=False) in heard.news)

        assert page.got == [b"answer"]
        assert FrameSent(link, 8, ok=False) in heard.news
        page.says.put_nowait(None)
        await heard.until(lambda: heard.news[-1] == LinkDown(link))
        assert page.closed == ""


async def test_nobody_comes_in_before_the_mesh_runs_or_beyond_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_links, "MOST", 2)
    with pytest.raises(TransportUnavailable, match="no mesh"):
        await WebLinks(print).join(Page())
    async with open_links() as heard:
        heard.join()
        heard.join()
        await heard.up(2)
        with pytest.raises(TransportUnavailable, match="no more"):
            await heard.links.join(Page())
        assert heard.links.refused == {"room": 1}
        assert len(heard.links) == 2


async def test_inv_p2p_37_what_is_no_frame_or_too_much_is_dropped_and_shown_out_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-P2P-37."""
    monkeypatch.setattr(web_links, "FRAMES_AT_ONCE", 5.0)
    monkeypatch.setattr(web_links, "OFFENCES", 9)
    async with open_links() as heard:
        page, other = heard.join(), heard.join()
        link = await heard.up()
        for message in ("text", b"", bytes(LONGEST_MESSAGE + 1)):
            page.says.put_nowait(message)
        for number in range(12):
            page.says.put_nowait(bytes([number]))
            other.says.put_nowait(bytes([number, 1]))

        await heard.until(lambda: LinkDown(link) in heard.news)

        assert [frame for frame in heard.frames if len(frame) == 1] == [
            bytes([number]) for number in range(5)
        ]
        assert heard.links.refused["form"] == 3
        await heard.until(lambda: page.closed != "")
        assert "refused" in page.closed
        assert other.closed == ""


async def test_the_engine_can_end_a_link() -> None:
    async with open_links() as heard:
        page = heard.join()
        link = await heard.up()

        heard.links.disconnect(link)
        heard.links.disconnect(3)

        await heard.until(lambda: page.closed != "")
        assert heard.news[-1] == LinkDown(link)


async def test_a_browser_that_does_not_read_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_links, "QUEUED", 3)
    async with open_links() as heard:
        page = heard.join()
        page.reads.clear()
        link = await heard.up()
        for token in range(9):
            heard.links.send(SendFrame(link, b"x", token))

        await heard.until(lambda: sum(isinstance(one, FrameSent) for one in heard.news) == 6)

        assert heard.links.refused["slow"] == 6


async def test_a_socket_that_went_and_an_end_of_the_mesh_end_the_link() -> None:
    async with open_links() as heard:
        page, other = heard.join(), heard.join()
        link = await heard.up(1)
        await heard.up(2)

        heard.links.send(SendFrame(link, b"gone", 1))

        await heard.until(lambda: LinkDown(link) in heard.news)
        assert FrameSent(link, 1, ok=False) in heard.news
        assert page.closed == ""
        await heard.links.stop()
        assert isinstance(heard.news[-1], LinkDown)
        await heard.until(lambda: other.closed != "")
