"""Browsers as peers of the mesh: a WebSocket is a link, a binary message is a packet.

What a browser sends are the packets of the BitChat app, byte for byte, and that is what it gets: it
has keys of its own, and this machine is a neighbour that passes its packets on. Who may come in,
the backend judges as it judges all requests; here are the links of those who are in.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any, Final, Protocol

from fog_compute.clock import Clock, SystemClock
from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.bitchat.wire.fragments import FRAME_BYTES
from fog_compute.p2p.core.limits import Bucket
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile.links import FIRST_WEB_LINK, Tell
from fog_compute.units import KIB

__all__ = ["LONGEST_MESSAGE", "MOST", "Socket", "WebLinks"]

LONGEST_MESSAGE: Final = 4 * KIB
"""Bytes of one packet; what is to go on over Bluetooth has to be in fragments, as everywhere."""

MOST: Final = 16
"""Browsers at a time."""

QUEUED: Final = 64
"""Frames that wait for a slow browser; more are refused to the engine, which tries again."""

FRAMES_PER_S: Final = 50.0
FRAMES_AT_ONCE: Final = 200.0
BYTES_PER_S: Final = 128.0 * KIB
BYTES_AT_ONCE: Final = 512.0 * KIB

OFFENCES: Final = 100
"""Messages of one browser that are no frame, or too many, after which it is shown out."""


class Socket(Protocol):
    """A WebSocket that is open."""

    async def receive(self) -> bytes | str | None:
        """Wait for the next message; None once the other side is gone."""
        ...

    async def send(self, data: bytes) -> bool:
        """Send a binary message, and say whether the other side was there."""
        ...

    async def close(self, reason: str) -> None:
        """Close, and say why."""
        ...


class _Browser:
    """One browser that is in.

    Attributes:
        leaving: set to a reason when it is to go.
        offences: what it sent that was refused.
    """

    __slots__ = ("bytes", "frames", "leaving", "offences", "queue", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket: Final = socket
        self.queue: Final[asyncio.Queue[SendFrame]] = asyncio.Queue(QUEUED)
        self.frames: Final = Bucket(FRAMES_PER_S, FRAMES_AT_ONCE)
        self.bytes: Final = Bucket(BYTES_PER_S, BYTES_AT_ONCE)
        self.leaving: Final[asyncio.Future[str]] = asyncio.get_running_loop().create_future()
        self.offences = 0

    def leave(self, reason: str) -> None:
        """Let it go."""
        if not self.leaving.done():
            self.leaving.set_result(reason)


class WebLinks:
    """A `LinkSource` for browsers.

    Attributes:
        refused: browsers that were not let in, and messages that were dropped, by reason.
    """

    def __init__(self, tell: Tell, *, clock: Clock | None = None) -> None:
        """Let nobody in yet.

        Args:
            tell: hears of links and frames, in the event loop.
            clock: of the bounds.
        """
        self._tell: Final = tell
        self._clock: Final = SystemClock() if clock is None else clock
        self._numbers: Final = itertools.count(FIRST_WEB_LINK)
        self._links: Final[dict[int, _Browser]] = {}
        self._open = False
        self._empty: Final = asyncio.Event()
        self._empty.set()
        self.refused: Final[Counter[str]] = Counter()

    def __len__(self) -> int:
        """How many browsers are in."""
        return len(self._links)

    async def start(self) -> None:
        """Let browsers in from now on."""
        self._open = True

    async def stop(self) -> None:
        """Show all out, and let nobody in; safe to call again."""
        self._open = False
        for browser in self._links.values():
            browser.leave("the mesh ends")
        await self._empty.wait()

    def owns(self, link: int) -> bool:
        """Whether a link is, or was, a browser's."""
        return FIRST_WEB_LINK <= link < FIRST_WEB_LINK * 2

    def send(self, frame: SendFrame) -> None:
        """Send a frame when its turn comes."""
        browser = self._links.get(frame.link)
        if browser is not None and len(frame.data) <= LONGEST_MESSAGE:
            try:
                browser.queue.put_nowait(frame)
                return
            except asyncio.QueueFull:
                self.refused["slow"] += 1
        # Told later: whoever sends is in the middle of something.
        sent = FrameSent(frame.link, frame.token, ok=False)
        asyncio.get_running_loop().call_soon(self._tell, sent)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        """Show a browser out; nobody is left alone, for each has shown a key."""
        del leave_s
        browser = self._links.get(link)
        if browser is not None:
            browser.leave("what you send are no packets")

    def check_room(self) -> None:
        """Refuse a browser before its socket is opened.

        Raises:
            TransportUnavailable: the mesh does not run, or as many are in as there may be.
        """
        if not self._open:
            raise TransportUnavailable("there is no mesh to join now: start messaging first")
        if len(self._links) >= MOST:
            self.refused["room"] += 1
            raise TransportUnavailable(f"{MOST} browsers are in the mesh, and no more may join")

    async def join(self, socket: Socket) -> None:
        """Let a browser take part until it goes, or is shown out.

        Raises:
            TransportUnavailable: as `check_room` says.
        """
        self.check_room()
        link = next(self._numbers)
        browser = self._links[link] = _Browser(socket)
        self._empty.clear()
        tasks = [
            asyncio.create_task(self._hear(link, browser), name="web-link-hears"),
            asyncio.create_task(self._speak(browser), name="web-link-speaks"),
        ]
        self._tell(LinkUp(link, FRAME_BYTES, initiated=False))
        try:
            waits: list[asyncio.Future[Any]] = [*tasks, browser.leaving]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            del self._links[link]
            if not self._links:
                self._empty.set()
            self._tell(LinkDown(link))
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if browser.leaving.done():
            await socket.close(browser.leaving.result())

    async def _hear(self, link: int, browser: _Browser) -> None:
        while (message := await browser.socket.receive()) is not None:
            now = self._clock.monotonic()
            if isinstance(message, str) or not 0 < len(message) <= LONGEST_MESSAGE:
                self._offend(browser, "form")
            elif not (browser.frames.take(1, now) and browser.bytes.take(len(message), now)):
                self._offend(browser, "rate")
            else:
                self._tell(FrameReceived(link, message))

    def _offend(self, browser: _Browser, reason: str) -> None:
        self.refused[reason] += 1
        browser.offences += 1
        if browser.offences >= OFFENCES:
            browser.leave("too much of what you send is refused")

    async def _speak(self, browser: _Browser) -> None:
        while True:
            frame = await browser.queue.get()
            ok = await browser.socket.send(frame.data)
            self._tell(FrameSent(frame.link, frame.token, ok))
            if not ok:
                return
