"""Browsers as peers of the mesh, over real sockets of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile import web_links
from fog_compute.p2p.mobile.links import LinkNews, RateLimit
from fog_compute.p2p.mobile.web_links import SUBPROTOCOL, WebLinks
from fog_compute.testing import ManualClock

pytestmark = pytest.mark.asyncio

TOKEN = "t" * 43


class Heard:
    """What the links told."""

    def __init__(self) -> None:
        self.news: list[LinkNews] = []
        self.links: WebLinks

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not met():
                await asyncio.sleep(0.001)

    @property
    def frames(self) -> list[bytes]:
        return [one.data for one in self.news if isinstance(one, FrameReceived)]

    @property
    def ups(self) -> list[LinkUp]:
        return [one for one in self.news if isinstance(one, LinkUp)]


@asynccontextmanager
async def listening(**options: object) -> AsyncIterator[Heard]:
    heard = Heard()
    heard.links = WebLinks(heard.news.append, TOKEN, clock=ManualClock(), **options)  # type: ignore[arg-type]
    await heard.links.start()
    try:
        yield heard
    finally:
        await heard.links.stop()


def browser(
    heard: Heard, token: str = TOKEN, origin: str | None = "http://localhost:3000"
) -> connect:
    offered = [Subprotocol(SUBPROTOCOL), Subprotocol(f"token.{token}")]
    return connect(
        f"ws://127.0.0.1:{heard.links.port}",
        subprotocols=offered,
        origin=None if origin is None else Origin(origin),
        compression=None,
        proxy=None,
    )


async def test_a_browser_is_a_link_that_carries_packets_both_ways() -> None:
    async with listening() as heard, browser(heard) as socket:
        assert socket.subprotocol == SUBPROTOCOL  # and not the token
        await heard.until(lambda: bool(heard.ups))
        link = heard.ups[0].link
        assert heard.links.owns(link)
        assert not heard.links.owns(1)
        assert not heard.ups[0].initiated
        await socket.send(b"packet")
        await heard.until(lambda: heard.frames == [b"packet"])

        heard.links.send(SendFrame(link, b"answer", 7))

        assert await socket.recv() == b"answer"
        await heard.until(lambda: FrameSent(link, 7, ok=True) in heard.news)
        heard.links.send(SendFrame(link, bytes(web_links.FRAME_BYTES + 1), 8))
        heard.links.send(SendFrame(link + 1, b"nobody", 9))
        await heard.until(lambda: FrameSent(link + 1, 9, ok=False) in heard.news)
        assert FrameSent(link, 8, ok=False) in heard.news
        await socket.close()
        await heard.until(lambda: heard.news[-1] == LinkDown(link))


@pytest.mark.parametrize(
    ("token", "origin", "status", "reason"),
    [
        ("", None, 401, "token"),
        (TOKEN[:-1], None, 401, "token"),
        (TOKEN + "x", "http://127.0.0.1", 401, "token"),
        (TOKEN, "https://evil.example", 403, "origin"),
        (TOKEN, "http://localhost.evil.example", 403, "origin"),
        (TOKEN, "null", 403, "origin"),
    ],
)
async def test_inv_p2p_31_nobody_comes_in_without_the_token_or_from_elsewhere(
    token: str, origin: str | None, status: int, reason: str
) -> None:
    """INV-P2P-31."""
    async with listening() as heard:
        with pytest.raises(InvalidStatus) as caught:
            async with browser(heard, token, origin):
                pass

        assert caught.value.response.status_code == status
        assert heard.links.refused == {reason: 1}
        assert heard.news == []


async def test_a_page_that_was_named_and_a_bearer_token_may_come_in() -> None:
    async with listening(origins=frozenset({"https://chat.example"})) as heard:
        async with browser(heard, origin="https://chat.example"):
            pass
        async with connect(
            f"ws://127.0.0.1:{heard.links.port}",
            additional_headers={"authorization": f"Bearer {TOKEN}"},
            proxy=None,
        ) as socket:
            assert socket.subprotocol is None
        assert heard.links.refused == {}


async def test_no_more_browsers_come_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_links, "MOST", 2)
    async with listening() as heard, browser(heard), browser(heard):
        await heard.until(lambda: len(heard.ups) == 2)
        with pytest.raises(InvalidStatus) as caught:
            async with browser(heard):
                pass
        assert caught.value.response.status_code == 503
        assert heard.links.refused == {"room": 1}


async def test_text_and_what_is_too_much_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_links, "FRAMES_AT_ONCE", 5.0)
    async with listening() as heard, browser(heard) as socket:
        await socket.send("text")
        for number in range(9):
            await socket.send(bytes([number]))

        await heard.until(lambda: heard.links.refused == {"text": 1, "rate": 4})

        assert heard.frames == [bytes([number]) for number in range(5)]


async def test_a_frame_that_is_too_long_ends_the_link() -> None:
    async with listening() as heard, browser(heard) as socket:
        await socket.send(bytes(web_links.FRAME_BYTES + 1))

        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await heard.until(lambda: isinstance(heard.news[-1], LinkDown))
        assert heard.frames == []


async def test_the_engine_can_end_a_link() -> None:
    async with listening() as heard, browser(heard) as socket:
        await heard.until(lambda: bool(heard.ups))

        heard.links.disconnect(heard.ups[0].link)
        heard.links.disconnect(3)

        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await heard.until(lambda: isinstance(heard.news[-1], LinkDown))


async def test_a_browser_that_does_not_read_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_links, "QUEUED", 3)
    async with listening() as heard, browser(heard):
        await heard.until(lambda: bool(heard.ups))
        for token in range(9):
            heard.links.send(SendFrame(heard.ups[0].link, b"x", token))

        await heard.until(lambda: sum(isinstance(one, FrameSent) for one in heard.news) == 9)

        assert heard.links.refused["slow"] == 6


async def test_it_listens_on_loopback_alone_and_says_what_is_in_the_way() -> None:
    everywhere = WebLinks(print, TOKEN, host="0.0.0.0")
    with pytest.raises(TransportUnavailable, match="not loopback"):
        await everywhere.start()
    async with listening() as heard:
        again = WebLinks(print, TOKEN, port=heard.links.port or 0)
        with pytest.raises(TransportUnavailable, match="cannot join"):
            await again.start()
        assert again.port is None
        await again.stop()


async def test_a_bucket_fills_again() -> None:
    bucket = RateLimit(2.0, 3.0)

    assert [bucket.take(1, 10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(1, 10.5)
    assert not bucket.take(1, 10.5)
    assert bucket.take(3, 99.0)
    assert not bucket.take(1, 99.0)
