"""Browsers as peers of the mesh: a WebSocket is a link, a binary message is a packet.

What a browser sends are the packets of the BitChat app, byte for byte, and that is what it gets: it
has keys of its own, and this machine is a neighbour that passes its packets on. The socket listens
on loopback, and is opened with the subprotocols ``bitchat`` and ``token.…``, because a page can set
no header; the token is in a file of the home folder.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fog_compute.clock import Clock, SystemClock
from fog_compute.hosts import is_loopback
from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile.links import FIRST_WEB_LINK, RateLimit, Tell

__all__ = ["SUBPROTOCOL", "WebLinks"]

SUBPROTOCOL: Final = "bitchat"
TOKEN_PREFIX: Final = "token."  # noqa: S105 - what stands in front of one

FRAME_BYTES: Final = 16 * 1024
MOST: Final = 16
"""Browsers at a time."""

QUEUED: Final = 64
"""Frames that wait for a slow browser; more are refused to the engine, which tries again."""

FRAMES_PER_S: Final = 50.0
FRAMES_AT_ONCE: Final = 200.0
BYTES_PER_S: Final = 128 * 1024.0
BYTES_AT_ONCE: Final = 512 * 1024.0


@dataclass(slots=True)
class _Browser:
    socket: ServerConnection
    queue: asyncio.Queue[SendFrame] = field(default_factory=lambda: asyncio.Queue(QUEUED))
    frames: RateLimit = field(default_factory=lambda: RateLimit(FRAMES_PER_S, FRAMES_AT_ONCE))
    bytes: RateLimit = field(default_factory=lambda: RateLimit(BYTES_PER_S, BYTES_AT_ONCE))


class WebLinks:
    """A `LinkSource` for browsers.

    Attributes:
        refused: browsers that were not let in, and frames that were dropped, by reason.
    """

    def __init__(
        self,
        tell: Tell,
        token: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        origins: frozenset[str] = frozenset(),
        clock: Clock | None = None,
    ) -> None:
        """Listen nowhere yet.

        Args:
            tell: hears of links and frames, in the event loop.
            token: what lets a browser in.
            host: where to listen; only loopback is taken.
            port: of it; 0 takes any free one.
            origins: of the pages that may connect beside those of loopback.
            clock: of the bounds.
        """
        self._tell: Final = tell
        self._token: Final = token
        self._host: Final = host
        self._port: Final = port
        self._origins: Final = origins
        self._clock: Final = SystemClock() if clock is None else clock
        self._numbers: Final = itertools.count(FIRST_WEB_LINK)
        self._links: Final[dict[int, _Browser]] = {}
        self._server: Server | None = None
        self.refused: Final[Counter[str]] = Counter()

    @property
    def port(self) -> int | None:
        """Where it listens; None while it does not."""
        if self._server is None:
            return None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            TransportUnavailable: the place is not loopback, or is taken.
        """
        if not is_loopback(self._host):
            raise TransportUnavailable(
                f"browsers join on this machine alone, and {self._host} is not loopback: put a"
                " proxy with TLS in front of it"
            )
        try:
            self._server = await serve(
                self._browse,
                self._host,
                self._port,
                process_request=self._judge,
                select_subprotocol=_chosen,
                compression=None,  # packets are compressed or sealed already
                max_size=FRAME_BYTES,
                max_queue=QUEUED,
                server_header=None,
                open_timeout=5,
                close_timeout=1,
            )
        except OSError as error:
            raise TransportUnavailable(
                f"browsers cannot join at {self._host}:{self._port}: {error.strerror}"
            ) from error

    async def stop(self) -> None:
        """Close all; safe to call again."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    def owns(self, link: int) -> bool:
        """Whether a link is, or was, a browser's."""
        return FIRST_WEB_LINK <= link < FIRST_WEB_LINK * 2

    def send(self, frame: SendFrame) -> None:
        """Send a frame when its turn comes."""
        browser = self._links.get(frame.link)
        if browser is not None and len(frame.data) <= FRAME_BYTES:
            try:
                browser.queue.put_nowait(frame)
                return
            except asyncio.QueueFull:
                self.refused["slow"] += 1
        # Told later: whoever sends is in the middle of something.
        sent = FrameSent(frame.link, frame.token, ok=False)
        asyncio.get_running_loop().call_soon(self._tell, sent)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        """Close a browser's socket; nobody is left alone, for each has shown the token."""
        del leave_s
        browser = self._links.get(link)
        if browser is not None:
            browser.socket.transport.abort()

    def _judge(self, socket: ServerConnection, request: Request) -> Response | None:
        """Let nobody in without the token, nor a page of another machine's."""
        origin = request.headers.get("origin")
        if origin is not None and not self._may(origin):
            return self._refuse(socket, HTTPStatus.FORBIDDEN, "origin")
        if not _shows(request, self._token):
            return self._refuse(socket, HTTPStatus.UNAUTHORIZED, "token")
        if len(self._links) >= MOST:
            return self._refuse(socket, HTTPStatus.SERVICE_UNAVAILABLE, "room")
        return None

    def _refuse(self, socket: ServerConnection, status: HTTPStatus, reason: str) -> Response:
        self.refused[reason] += 1
        return socket.respond(status, f"{status.phrase}\n")

    def _may(self, origin: str) -> bool:
        if origin in self._origins:
            return True
        try:
            host = urlsplit(origin).hostname
        except ValueError:
            return False
        return host is not None and (host == "localhost" or is_loopback(host))

    async def _browse(self, socket: ServerConnection) -> None:
        link = next(self._numbers)
        browser = self._links[link] = _Browser(socket)
        sending = asyncio.create_task(self._send(browser), name="web-link")
        self._tell(LinkUp(link, FRAME_BYTES, initiated=False))
        try:
            async for message in socket:
                self._received(link, browser, message)
        except ConnectionClosed:
            pass  # without a word, or for a frame that was too long
        finally:
            sending.cancel()
            del self._links[link]
            self._tell(LinkDown(link))

    def _received(self, link: int, browser: _Browser, message: str | bytes) -> None:
        now = self._clock.monotonic()
        if isinstance(message, str) or not message:
            self.refused["text"] += 1
        elif not (browser.frames.take(1, now) and browser.bytes.take(len(message), now)):
            self.refused["rate"] += 1
        else:
            self._tell(FrameReceived(link, message))

    async def _send(self, browser: _Browser) -> None:
        while True:
            frame = await browser.queue.get()
            try:
                await browser.socket.send(frame.data)
            except ConnectionClosed:
                self._tell(FrameSent(frame.link, frame.token, ok=False))
                return
            self._tell(FrameSent(frame.link, frame.token, ok=True))


def _shows(request: Request, token: str) -> bool:
    """Whether a request has the token: among its subprotocols, or as a bearer token."""
    given = [
        part.strip().removeprefix(TOKEN_PREFIX)
        for line in request.headers.get_all("sec-websocket-protocol")
        for part in line.split(",")
        if part.strip().startswith(TOKEN_PREFIX)
    ]
    bearer = request.headers.get("authorization") or ""
    if bearer.lower().startswith("bearer "):
        given.append(bearer[len("bearer ") :].strip())
    return any(hmac.compare_digest(one.encode(), token.encode()) for one in given)


def _chosen(socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Never the token: the answer would repeat it."""
    del socket
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
