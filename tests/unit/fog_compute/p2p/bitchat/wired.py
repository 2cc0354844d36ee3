"""A transport without a radio: its links end at a test, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from random import Random

from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.bitchat.mail.couriers import MailState
from fog_compute.p2p.bitchat.radio.off import OffRadio
from fog_compute.p2p.bitchat.wire.packet import Packet, decode
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Arrival, TransportEvent
from fog_compute.testing import ManualClock
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person

FIRST = 1 << 40


class Wired:
    """A transport with links to a test.

    Attributes:
        transport: it.
        sent: what left it, and over which link.
        ended: links that it wanted ended.
        mail: what it wanted kept last.
        takes: whether links take what they are given.
    """

    def __init__(
        self,
        person: int = 99,
        *,
        book: PeerBook | None = None,
        groups: Groups | None = None,
        mail: MailState | None = None,
    ) -> None:
        self.clock = ManualClock(datetime.fromtimestamp(NOW, UTC))
        self.me = Person(person)
        self.transport = BitChatTransport(
            self.me.keys,
            radio=OffRadio("there is no adapter"),
            others=self,
            book=book,
            groups=groups,
            mail=mail,
            clock=self.clock,
            rng=Random(3),
        )
        self.transport.on_mail = self._keep
        self.sent: list[tuple[int, Packet]] = []
        self.ended: list[int] = []
        self.mail: MailState | None = None
        self.takes = True
        self._frames: deque[SendFrame] = deque()
        self._ends: dict[int, tuple[Wired, int]] = {}
        self._busy = False

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def owns(self, link: int) -> bool:
        return link >= FIRST

    def send(self, frame: SendFrame) -> None:
        self.sent.append((frame.link - FIRST, decode(frame.data)))
        self._frames.append(frame)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        self.ended.append(link - FIRST)

    def up(self, *links: int) -> None:
        for link in links:
            self.transport.tell(LinkUp(FIRST + link, 512, initiated=True))
        self._settle()

    def down(self, link: int) -> None:
        self.transport.tell(LinkDown(FIRST + link))
        self._settle()

    def raw(self, link: int, data: bytes) -> None:
        """Let a frame come in."""
        self.transport.tell(FrameReceived(FIRST + link, data))
        self._settle()

    def get(self, link: int, *packets: Packet) -> None:
        """Let packets come in."""
        for one in packets:
            self.raw(link, one.on_air)

    async def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, at most so much."""
        for _ in range(round(seconds / 0.25)):
            if until():
                return
            await self.clock.advance(0.25)
            # Whatever happens, the mesh does what is due.
            self.transport.tell(FrameSent(0, 0, ok=True))
            self._settle()

    async def told(self) -> list[TransportEvent]:
        """What it told since this was last asked."""
        found: list[TransportEvent] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                while True:
                    found.append(await self.transport.receive())
        return found

    async def heard(self) -> list[DecentralizedMessage]:
        """The messages among what it told."""
        return [one.message for one in await self.told() if isinstance(one, Arrival)]

    def join(self, link: int, other: Wired) -> None:
        """Let a link end at another transport, over a link of the same number."""
        self._ends[link], other._ends[link] = (other, link), (self, link)
        self.up(link)
        other.up(link)
        self._settle()

    def part(self, link: int) -> None:
        """End a link that joins two; what waits for it is lost."""
        other, number = self._ends.pop(link)
        del other._ends[number]
        self.down(link)
        other.down(number)

    def _settle(self) -> None:
        """Let frames arrive, and those that follow from that; not within another such call."""
        if self._busy:
            return
        self._busy = True
        while self.takes and self._frames:
            frame = self._frames.popleft()
            self.transport.tell(FrameSent(frame.link, frame.token, ok=True))
            other, link = self._ends.get(frame.link - FIRST, (None, 0))
            if other is not None:
                other.transport.tell(FrameReceived(FIRST + link, frame.data))
        self._busy = False
        for other, _ in list(self._ends.values()):
            if other._frames and not other._busy:
                other._settle()

    def _keep(self, mail: MailState) -> None:
        self.mail = mail


@contextlib.asynccontextmanager
async def wired(*links: int, **more: object) -> AsyncIterator[Wired]:
    """A transport that runs, with some links."""
    made = Wired(**more)  # type: ignore[arg-type]  # fields by name
    await made.transport.initialize()
    made.up(*links)
    try:
        yield made
    finally:
        await made.transport.shutdown()
