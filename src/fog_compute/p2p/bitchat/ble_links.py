"""Links over a radio: carries out what scanner and advertiser decide, and moves frames.

What happens on the links is told by one callback, in the records of
:mod:`fog_compute.p2p.bitchat.events`. Each link has a queue of its own, so that a slow one holds up
no other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from fog_compute.p2p.bitchat.ble_advertiser import (
    Advertise,
    AdvertiseEnded,
    AdvertisePolicy,
    BLEAdvertiser,
)
from fog_compute.p2p.bitchat.ble_scanner import (
    BLEScanner,
    Cancel,
    Connect,
    ConnectEnded,
    Scan,
    ScanAction,
    ScanPolicy,
    ScanRefused,
)
from fog_compute.p2p.bitchat.ble_stream import FrameStream
from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    ConnectFailed,
    Found,
    Gone,
    Link,
    Opened,
    Radio,
    RadioEvent,
    RadioUnavailable,
    Received,
)
from fog_compute.p2p.core.background import background

if TYPE_CHECKING:
    from fog_compute.clock import Clock

__all__ = ["AdapterChanged", "BleLinks", "LinkNews"]

QUEUED: Final = 64
"""Frames that wait for a link's radio; the engine keeps its own queue, and hands over a few."""

STOP_TRIES: Final = 3
"""How often what runs is told to end before it is left behind."""


@dataclass(frozen=True, slots=True)
class AdapterChanged:
    """The adapter came or went.

    Attributes:
        unavailable_because: None if it came.
        final: it does not come back before the driver is started anew.
    """

    unavailable_because: str | None
    final: bool = False


LinkNews: TypeAlias = LinkUp | LinkDown | FrameReceived | FrameSent | AdapterChanged


@dataclass(slots=True)
class _Line:
    """An open link: what waits for it, who sends that, and what came of an unfinished packet."""

    address: str
    queue: asyncio.Queue[SendFrame]
    sender: asyncio.Task[None]
    stream: FrameStream


class BleLinks:
    """All links of one radio."""

    __slots__ = (
        "_advertiser",
        "_attempt",
        "_clock",
        "_lines",
        "_orders",
        "_radio",
        "_scanner",
        "_tasks",
        "_tell",
        "_timer",
    )

    def __init__(
        self,
        radio: Radio,
        tell: Callable[[LinkNews], None],
        *,
        clock: Clock,
        rng: Random,
        scan: ScanPolicy | None = None,
        advertise: AdvertisePolicy | None = None,
    ) -> None:
        """Make links that wait for `start`; ``tell`` is called from the event loop."""
        self._radio: Final = radio
        self._tell: Final = tell
        self._clock: Final = clock
        self._scanner: Final = BLEScanner(scan or ScanPolicy(), rng)
        self._advertiser: Final = BLEAdvertiser(advertise or AdvertisePolicy())
        self._lines: Final[dict[Link, _Line]] = {}
        self._orders: asyncio.Queue[Scan | Connect | Advertise] = asyncio.Queue()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._attempt: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limited_because(self) -> str | None:
        """Why the adapter only connects, or is only connected to; None if it does both."""
        return self._radio.state().limited_because

    async def start(self) -> None:
        """Take the adapter, and go looking for others.

        Raises:
            RadioUnavailable: there is none.
        """
        await self._radio.start()
        self._orders = asyncio.Queue()
        self._run(self._listen())
        self._run(self._obey())

    async def stop(self) -> None:
        """End all links and let go of the adapter; safe to call again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(STOP_TRIES):  # a library may swallow a cancellation
            if not self._tasks:
                break
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1.0)
        self._gone("the driver was stopped")
        await self._radio.stop()

    async def drain(self, seconds: float) -> None:
        """Wait until all frames have left, at most so long."""
        waiting = [line.queue.join() for line in self._lines.values()]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*waiting), seconds)

    def send(self, frame: SendFrame) -> None:
        """Send a frame when its turn comes; :class:`FrameSent` follows, whatever happens."""
        line = self._lines.get(frame.link)
        if line is not None:
            try:
                line.queue.put_nowait(frame)
                return
            except asyncio.QueueFull:
                pass
        # Told later: whoever sends is in the middle of something.
        asyncio.get_running_loop().call_soon(
            self._tell, FrameSent(frame.link, frame.token, ok=False)
        )

    def disconnect(self, link: Link, leave_s: float = 0.0) -> None:
        """End a link, and leave its address alone for so many seconds."""
        if (line := self._lines.get(link)) is not None:
            if line.address and leave_s:
                self._scanner.shun(line.address, self._clock.monotonic(), leave_s)
            self._run(self._radio.disconnect(link))

    async def _listen(self) -> None:
        while True:
            event = await self._radio.next()
            now = self._clock.monotonic()
            match event:
                case Received():
                    self._received(event, now)
                    continue
                case Opened():
                    self._opened(event)
                case Closed():
                    self._closed(event.link)
                case Gone():
                    self._gone(event.reason)
                case Back() | Found():
                    pass
            self._decide(event, now)
            if isinstance(event, Gone):
                self._tell(AdapterChanged(event.reason, event.final))
            elif isinstance(event, Back):
                self._tell(AdapterChanged(None))

    async def _obey(self) -> None:
        """Ask the radio for one thing at a time, in the order in which it was decided."""
        while True:
            match await self._orders.get():
                case Scan(on):
                    try:
                        await self._radio.scan(on)
                    except RadioUnavailable:
                        if on:
                            self._scans(ScanRefused())
                case Advertise(on):
                    ok = True
                    try:
                        await self._radio.advertise(on)
                    except RadioUnavailable:
                        ok = False
                    now = self._clock.monotonic()
                    self._order(self._advertiser.handle(AdvertiseEnded(on, ok), now))
                    self._arm(now)
                case Connect(address) if self._linked(address):
                    self._scans(ConnectEnded(address, ok=False))  # they came to us meanwhile
                case Connect(address):
                    self._attempt = self._run(self._connect(address))

    def _linked(self, address: str) -> bool:
        return any(line.address == address for line in self._lines.values())

    async def _connect(self, address: str) -> None:
        ok = False
        try:
            await self._radio.connect(address)
            ok = True
        except ConnectFailed:
            pass  # the scanner leaves the address alone, for longer each time
        finally:
            self._attempt = None
            self._scans(ConnectEnded(address, ok))

    async def _send(self, link: Link, queue: asyncio.Queue[SendFrame]) -> None:
        while True:
            frame = await queue.get()
            ok = await self._radio.send(link, frame.data)
            queue.task_done()
            self._tell(FrameSent(link, frame.token, ok))

    def _received(self, received: Received, now: float) -> None:
        line = self._lines.get(received.link)
        if line is not None:
            for data in line.stream.take(received.data, now):
                self._tell(FrameReceived(received.link, data))

    def _opened(self, opened: Opened) -> None:
        queue: asyncio.Queue[SendFrame] = asyncio.Queue(QUEUED)
        sender = self._run(self._send(opened.link, queue))
        self._lines[opened.link] = _Line(opened.address, queue, sender, FrameStream())
        self._tell(LinkUp(opened.link, opened.mtu, opened.initiated))

    def _closed(self, link: Link) -> None:
        line = self._lines.pop(link, None)
        if line is not None:
            line.sender.cancel()
            self._tell(LinkDown(link))

    def _gone(self, _reason: str) -> None:
        for link in tuple(self._lines):
            self._closed(link)
        while not self._orders.empty():
            self._orders.get_nowait()

    def _decide(self, event: RadioEvent, now: float) -> None:
        self._follow(self._scanner.handle(event, now))
        self._order(self._advertiser.handle(event, now))
        self._arm(now)

    def _scans(self, event: ConnectEnded | ScanRefused) -> None:
        now = self._clock.monotonic()
        self._follow(self._scanner.handle(event, now))
        self._arm(now)

    def _follow(self, actions: list[ScanAction]) -> None:
        for action in actions:
            if isinstance(action, Cancel):
                if self._attempt is not None:
                    self._attempt.cancel()
            else:
                self._orders.put_nowait(action)

    def _order(self, actions: list[Advertise]) -> None:
        for action in actions:
            self._orders.put_nowait(action)

    def _arm(self, now: float) -> None:
        """See to it that what is due without an event is done then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = (self._scanner.next_due, self._advertiser.next_due)
        if due := [at for at in times if at is not None]:
            pause = max(min(due) - now, 0.001)
            self._timer = asyncio.get_running_loop().call_later(pause, self._wake)

    def _wake(self) -> None:
        now = self._clock.monotonic()
        self._follow(self._scanner.due(now))
        self._order(self._advertiser.due(now))
        self._arm(now)

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = background(work, "ble-order", self._failed)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _failed(self, error: BaseException) -> None:
        # Its text may hold what a stranger sent.
        why = f"the Bluetooth driver has a fault: {type(error).__name__}"
        self._tell(AdapterChanged(why, final=True))
