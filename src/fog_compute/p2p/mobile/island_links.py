"""Two islands of the Bluetooth mesh joined through the mixnet: a friend far away is a neighbour.

Each side names the other, by fingerprint. What the mesh would send to a neighbour goes as a message
to that person's mixnet client, several frames in one; it is sealed and signed as all messages are,
and the packets in it keep their own TTL and signatures. Nothing of it waits for anybody: what could
not be sent is lost, as on the air, and the mesh mends it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from fog_compute.clock import Clock, SystemClock
from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.mobile.links import FIRST_ISLAND_LINK, RateLimit, Tell

__all__ = ["BATCH_BYTES", "Carrier", "IslandLinks", "pack", "unpack"]

FRAME_BYTES: Final = 4096
BATCH_BYTES: Final = 16 * 1024
QUEUED: Final = 128
"""Frames that wait for the next message to one island."""

GATHER_S: Final = 0.05
"""How long frames are gathered: a message of the mixnet takes longer anyway."""

FRAMES_PER_S: Final = 30.0
FRAMES_AT_ONCE: Final = 150.0
BYTES_PER_S: Final = 16 * 1024.0
BYTES_AT_ONCE: Final = 256 * 1024.0


class Carrier(Protocol):
    """Takes batches to people far away; `fog_compute.p2p.htx.client.HtxClient` is one."""

    async def carry(self, destination: str, body: bytes) -> bool:
        """Send a batch to somebody, and say whether their edge has it."""
        ...


class _Island:
    """What is known of one island."""

    __slots__ = ("arriving", "link", "queue", "rate_bytes", "rate_frames", "sender")

    def __init__(self, link: int) -> None:
        self.link: Final = link
        self.queue: Final[asyncio.Queue[SendFrame]] = asyncio.Queue(QUEUED)
        self.rate_frames: Final = RateLimit(FRAMES_PER_S, FRAMES_AT_ONCE)
        self.rate_bytes: Final = RateLimit(BYTES_PER_S, BYTES_AT_ONCE)
        self.arriving: Final = RateLimit(FRAMES_PER_S, FRAMES_AT_ONCE)
        self.sender: asyncio.Task[None] | None = None


class IslandLinks:
    """A `LinkSource` with one link for each person whose island ours is joined with.

    Attributes:
        dropped: frames, by reason.
    """

    def __init__(
        self,
        tell: Tell,
        carrier: Carrier,
        islands: Iterable[str],
        *,
        clock: Clock | None = None,
    ) -> None:
        """Join nothing yet.

        Args:
            tell: hears of links and frames, in the event loop.
            carrier: takes what goes to other islands.
            islands: the fingerprints of the people who have them.
            clock: of the bounds, and of how long frames are gathered.
        """
        self._tell: Final = tell
        self._carrier: Final = carrier
        self._people: Final = tuple(dict.fromkeys(islands))
        self._clock: Final = SystemClock() if clock is None else clock
        self._numbers: Final = itertools.count(FIRST_ISLAND_LINK)
        self._islands: Final[dict[str, _Island]] = {}
        self.dropped: Final[Counter[str]] = Counter()

    async def start(self) -> None:
        """Tell of a link to each island: whether anybody is there shows by what comes."""
        for person in self._people:
            if person in self._islands:
                continue
            island = self._islands[person] = _Island(next(self._numbers))
            island.sender = asyncio.create_task(self._send(person, island), name="island")
            self._tell(LinkUp(island.link, FRAME_BYTES, initiated=True))

    async def stop(self) -> None:
        """End all links; safe to call again."""
        for person in tuple(self._islands):
            self._end(person)

    def owns(self, link: int) -> bool:
        """Whether a link is, or was, an island's."""
        return FIRST_ISLAND_LINK <= link < FIRST_ISLAND_LINK * 2

    def send(self, frame: SendFrame) -> None:
        """Put a frame into the next message to its island."""
        island = next((one for one in self._islands.values() if one.link == frame.link), None)
        now = self._clock.monotonic()
        ok = False
        if island is None or len(frame.data) > FRAME_BYTES:
            self.dropped["link"] += 1
        elif not (island.rate_frames.take(1, now) and island.rate_bytes.take(len(frame.data), now)):
            self.dropped["rate"] += 1
        else:
            try:
                island.queue.put_nowait(frame)
                ok = True
            except asyncio.QueueFull:
                self.dropped["full"] += 1
        if not ok:
            sent = FrameSent(frame.link, frame.token, ok=False)
            asyncio.get_running_loop().call_soon(self._tell, sent)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        """End the link to an island until the next start."""
        del leave_s
        for person, island in tuple(self._islands.items()):
            if island.link == link:
                self._end(person)

    def take(self, sender: str, body: bytes) -> None:
        """A batch came from somebody; whose island ours is not joined with is not heard."""
        island = self._islands.get(sender)
        if island is None:
            self.dropped["stranger"] += 1
            return
        frames = unpack(body)
        if frames is None:
            self.dropped["form"] += 1
            return
        for data in frames:
            if not island.arriving.take(1, self._clock.monotonic()):
                self.dropped["arriving"] += 1
            elif self._islands.get(sender) is island:  # the engine may have ended it meanwhile
                self._tell(FrameReceived(island.link, data))

    async def _send(self, person: str, island: _Island) -> None:
        while True:
            batch = [await island.queue.get()]
            await self._clock.sleep(GATHER_S)
            size = len(batch[0].data) + 2
            # A frame has at most a quarter of a batch: one more always leaves room to look.
            while not island.queue.empty() and size + FRAME_BYTES + 2 <= BATCH_BYTES:
                batch.append(island.queue.get_nowait())
                size += len(batch[-1].data) + 2
            ok = await self._carrier.carry(person, pack([one.data for one in batch]))
            for one in batch:
                self._tell(FrameSent(one.link, one.token, ok))

    def _end(self, person: str) -> None:
        island = self._islands.pop(person)
        if island.sender is not None:
            island.sender.cancel()
        self._tell(LinkDown(island.link))


def pack(frames: Iterable[bytes]) -> bytes:
    """Frames in one message: before each its length, two bytes, big-endian."""
    return b"".join(len(one).to_bytes(2, "big") + one for one in frames)


def unpack(body: bytes) -> list[bytes] | None:
    """The frames of a message; None if it is none."""
    if len(body) > BATCH_BYTES:
        return None
    frames, at = [], 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        frame = body[at + 2 : at + 2 + size]
        if at + 2 > len(body) or not 0 < len(frame) == size <= FRAME_BYTES:
            return None
        frames.append(frame)
        at += 2 + size
    return frames
