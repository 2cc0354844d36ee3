"""The one WebSocket of the backend: who may open it, what comes of it, and when it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from fog_compute.clock import SystemClock
from fog_compute.config import Settings
from fog_compute.p2p.bitchat.events import FrameReceived, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.bitchat.radio.off import OffRadio
from fog_compute.p2p.bitchat.wire.announce import Announce, peer_id
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import decode, packet
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.mobile.links import LinkNews
from fog_compute.p2p.mobile.web_links import LONGEST_MESSAGE, WebLinks
from fog_compute.scopes import Scope
from fog_compute.server import access, listener
from fog_compute.server.listener import Connection, Listener, Places
from tests.unit.fog_compute.server.conftest import Api, running_api
from tests.unit.fog_compute.server.test_gate import make_key

pytestmark = pytest.mark.asyncio

PATH = "/api/v1/chat/link"


class Served:
    """A backend on a socket of loopback, with links for browsers."""

    def __init__(self, api: Api, token: str) -> None:
        self.api = api
        self.token = token
        self.news: list[LinkNews] = []
        self.links: WebLinks | None = WebLinks(self.news.append)
        self.places = Places(5)
        self.made: list[Connection] = []
        self.state = ServerState()
        self.port = 0

    def opening(self, *offered: str, path: str = PATH, **more: Any) -> connect:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            subprotocols=[Subprotocol(one) for one in offered] or None,
            compression=None,
            proxy=None,
            **more,
        )

    def browser(self, origin: str | None = None, key: str | None = None, **more: Any) -> connect:
        text = self.token if key is None else key
        page = None if origin is None else Origin(origin)
        return self.opening(access.SUBPROTOCOL, access.TOKEN_PREFIX + text, origin=page, **more)

    async def status(self, opening: connect) -> int:
        with pytest.raises(InvalidStatus) as caught:
            async with opening:
                pass
        assert self.news == []
        return int(caught.value.response.status_code)

    async def link(self) -> int:
        await self.api.until(self._is_up)
        return next(one.link for one in self.news if isinstance(one, LinkUp))

    async def _is_up(self) -> bool:
        return any(isinstance(one, LinkUp) for one in self.news)

    async def until_down(self) -> None:
        async def is_down() -> bool:
            return bool(self.news) and isinstance(self.news[-1], LinkDown)

        await self.api.until(is_down)


@asynccontextmanager
async def serving(api: Api, settings: Settings) -> AsyncIterator[Served]:
    served = Served(api, settings.layout.token_file.read_text())
    config = uvicorn.Config(
        api.app,
        log_config=None,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=LONGEST_MESSAGE,
        ws_per_message_deflate=False,
    )
    config.load()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        served.port = bound.getsockname()[1]

        def connection() -> Connection:
            made = Connection(served.places, config=config, server_state=served.state, app_state={})
            served.made.append(made)
            return made

        listening = Listener(bound, served.places, connection)
        try:
            yield served
        finally:
            listening.close()
            await listening.wait_closed()
            for still in list(served.state.connections):
                still.shutdown()
            async with asyncio.timeout(20):
                while served.state.tasks or served.state.connections:
                    await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def served(api: Api, settings: Settings) -> AsyncIterator[Served]:
    async with serving(api, settings) as made:
        assert made.links is not None
        await made.links.start()

        async def browsers() -> WebLinks | None:
            return made.links

        api.app.state.browsers = browsers
        yield made


async def test_a_browser_speaks_packets_with_the_mesh(served: Served) -> None:
    said = packet(Kind.MESSAGE, bytes(8), 1_800_000_000_000, b"from a page").wire
    heard = packet(Kind.MESSAGE, bytes(8), 1_800_000_000_001, b"from the mesh").wire
    async with served.browser() as page:
        assert page.subprotocol == access.SUBPROTOCOL  # and not the key
        link = await served.link()
        assert served.links is not None
        await page.send(said)

        async def came() -> bool:
            return FrameReceived(link, said) in served.news

        await served.api.until(came)
        served.links.send(SendFrame(link, heard, 1))
        answer = await page.recv()
        assert isinstance(answer, bytes)
        assert decode(answer).payload == b"from the mesh"
    await served.until_down()


async def test_inv_p2p_31_nobody_comes_in_without_a_key_of_the_scope(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """INV-P2P-31."""
    reads = (await make_key(served.api, Scope.READ))["key"]
    assert await served.status(served.opening()) == 401
    assert await served.status(served.opening(access.SUBPROTOCOL)) == 401
    assert await served.status(served.browser(key=served.token[:-1])) == 401
    assert await served.status(served.browser(key=reads)) == 403
    assert await served.status(served.opening(path=f"{PATH}?token={served.token}")) == 401
    for path in ("/api/v1/chat", "/health", "/"):
        elsewhere = served.opening(access.TOKEN_PREFIX + served.token, path=path)
        assert await served.status(elsewhere) == 404
    assert caplog.records == [], "nobody fills the log by trying"
    headers = {"authorization": f"Bearer {served.token}"}
    async with served.opening(additional_headers=headers) as page:
        assert page.subprotocol is None


async def test_inv_p2p_31_a_page_of_another_machine_is_refused_with_any_key(
    served: Served,
) -> None:
    """INV-P2P-31."""
    for origin in (
        "https://evil.example",
        "http://localhost.evil.example",
        "http://[::1",
        "null",
    ):
        assert await served.status(served.browser(origin)) == 403
    for origin in (f"http://127.0.0.1:{served.port}", "http://localhost:3000"):
        async with served.browser(origin):
            pass


async def test_inv_p2p_31_a_login_opens_it_for_pages_of_the_backend_alone(served: Served) -> None:
    """INV-P2P-31."""
    made = await served.api.stranger.post("/api/v1/login", json={"key": served.token})
    cookie = {"cookie": made.headers["set-cookie"].partition(";")[0]}
    for origin in (None, "http://localhost:3000", "https://evil.example"):
        page = None if origin is None else Origin(origin)
        assert await served.status(served.opening(additional_headers=cookie, origin=page)) == 403
    own = Origin(f"http://127.0.0.1:{served.port}")
    async with served.opening(additional_headers=cookie, origin=own):
        pass


async def test_a_name_that_is_not_served_is_refused(served: Served) -> None:
    headers = {"host": "evil.example"}
    opening = served.opening(access.TOKEN_PREFIX + served.token, additional_headers=headers)
    assert await served.status(opening) == 400


async def test_without_a_mesh_or_room_it_says_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    links, served.links = served.links, None
    assert await served.status(served.browser()) == 503
    served.links = links
    monkeypatch.setattr("fog_compute.p2p.mobile.web_links.MOST", 0)
    assert await served.status(served.browser()) == 503


async def test_a_message_that_is_too_long_ends_the_socket(served: Served) -> None:
    async with served.browser() as page:
        await served.link()
        await page.send(Random(1).randbytes(LONGEST_MESSAGE + 1))
        with pytest.raises(ConnectionClosed) as caught:
            await page.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    await served.until_down()
    assert not any(isinstance(one, FrameReceived) for one in served.news)


async def test_a_key_that_is_revoked_ends_its_socket(served: Served) -> None:
    made = await make_key(served.api, Scope.CHAT)
    async with served.browser(key=made["key"]) as page, served.browser() as other:
        await served.link()
        await page.send(b"one")
        gone = await served.api.http.delete(f"/api/v1/keys/{made['id']}")
        assert gone.status_code in {200, 204}
        await page.send(b"two")
        with pytest.raises(ConnectionClosed) as caught:
            await page.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        await served.until_down()
        await other.send(b"still here")
    frames = [one.data for one in served.news if isinstance(one, FrameReceived)]
    assert b"one" in frames
    assert b"two" not in frames


async def test_at_the_end_a_page_is_told(served: Served) -> None:
    async with served.browser() as page:
        await served.link()
        assert served.links is not None
        await served.links.stop()
        with pytest.raises(ConnectionClosed) as caught:
            await page.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


async def test_a_socket_has_its_place_until_it_ends_and_no_clock_over_its_head(
    served: Served,
) -> None:
    for _ in range(2 * served.places.most):
        async with served.browser() as page:
            await page.send(b"x")
    async with served.browser() as page:
        await page.send(b"x")
        assert served.made[-1]._head_timer is None
        others = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(9)]
        await (await page.ping())  # those were silent, and it is not the one that gives way
        for _, writer in others:
            writer.close()
    health = await served.api.stranger.get("/health")
    assert health.status_code == 200


async def test_inv_p2p_37_who_reads_nothing_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-37."""
    monkeypatch.setattr(listener, "READ_S", 0.01)
    async with served.browser(close_timeout=0) as page:
        page.transport.pause_reading()
        link = await served.link()
        data = bytes(LONGEST_MESSAGE)

        async def fills() -> bool:
            if served.links is not None:
                for token in range(64):
                    served.links.send(SendFrame(link, data, token))
            return isinstance(served.news[-1], LinkDown)

        await served.api.until(fills)


def no_radio(_name: str) -> OffRadio:
    return OffRadio("there is no adapter: plug one in")


async def test_what_a_page_says_is_in_the_log_and_what_is_said_here_comes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fog_compute.p2p.bitchat.radio.system.system_radio", no_radio)
    settings = Settings(home=tmp_path, chat_name="ada")
    keys = Identity.new()
    announce = Announce("page", keys.noise_public, keys.signing_public)

    def signed(kind: Kind, payload: bytes, ago_ms: int) -> bytes:
        now_ms = int(SystemClock().now().timestamp() * 1000) - ago_ms
        made = packet(kind, peer_id(keys.noise_public), now_ms, payload)
        return sign(made, keys).wire

    async with running_api(settings) as api, serving(api, settings) as served:

        async def texts() -> list[str]:
            answer = await api.http.get("/api/v1/chat/messages")
            return [one["text"] for one in answer.json()["messages"]]

        async def heard() -> bool:
            return await texts() == ["from a page"]

        async with served.browser() as page:
            await page.send(signed(Kind.ANNOUNCE, announce.encode(), 2))
            await page.send(signed(Kind.MESSAGE, b"from a page", 1))
            await api.until(heard)
            await api.http.post("/api/v1/chat/messages", json={"text": "from here"})
            while True:
                data = await page.recv()
                assert isinstance(data, bytes)
                if decode(data).kind == Kind.MESSAGE:
                    break
            assert decode(data).payload == b"from here"


async def test_where_the_mesh_is_off_it_says_how_to_change_that(
    api: Api, settings: Settings
) -> None:
    async with serving(api, settings) as served:
        assert await served.status(served.browser()) == 503
