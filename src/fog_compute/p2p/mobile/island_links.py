"""Two islands of the Bluetooth mesh joined through the mixnet: the driver of the bridge's engine.

Each side names the other, by fingerprint; what follows from that is decided in
:mod:`~fog_compute.p2p.mobile.bridging`. Here bundles are handed to the mixnet and taken from it,
and the engine is woken. A bundle is sealed and signed as all messages are; the packets in it keep
their own TTL and signatures.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Final, Protocol

from fog_compute.clock import Clock, SystemClock
from fog_compute.p2p.bitchat.events import SendFrame, Wake, WakeAt
from fog_compute.p2p.core.background import background
from fog_compute.p2p.mobile.bridging import (
    BridgeEvent,
    BridgePolicy,
    Bridging,
    Came,
    Part,
    Partners,
    Post,
    Posted,
)
from fog_compute.p2p.mobile.links import FIRST_ISLAND_LINK, LinkNews, Tell

__all__ = ["Carrier", "IslandLinks"]

LEAVE_S: Final = 60.0
"""How long an island is left alone at least that the mesh wants no more."""

FAREWELL_S: Final = 1.0
"""How long the end waits for a last word to be on its way."""


class Carrier(Protocol):
    """Takes bundles to people far away; `fog_compute.p2p.htx.client.HtxClient` is one."""

    async def carry(self, destination: str, body: bytes) -> bool:
        """Send a bundle to somebody, and say whether their edge has it."""
        ...


class IslandLinks:
    """A `LinkSource` with one link for each island that ours is joined with now."""

    def __init__(
        self,
        tell: Tell,
        carrier: Carrier,
        islands: Iterable[str],
        *,
        clock: Clock | None = None,
        rng: Random | None = None,
        policy: BridgePolicy | None = None,
    ) -> None:
        """Join nothing yet.

        Args:
            tell: hears of links and frames, in the event loop.
            carrier: takes what goes to other islands.
            islands: the fingerprints of the people who have them.
            clock: of the bounds, and of what is too old.
            rng: for pauses.
            policy: what is not as usual.
        """
        self._tell: Final = tell
        self._carrier: Final = carrier
        self._people: Final = frozenset(islands)
        self._clock: Final = SystemClock() if clock is None else clock
        self._engine: Final = Bridging(rng or random.SystemRandom(), policy)
        self._posts: Final[set[asyncio.Task[None]]] = set()
        self._timer: asyncio.Task[None] | None = None

    @property
    def counts(self) -> Counter[str]:
        """Packets that crossed, that did not and why, and what others sent that was refused."""
        return self._engine.counts

    @property
    def joined(self) -> frozenset[str]:
        """The people whose islands ours is joined with now."""
        return self._engine.joined

    async def start(self) -> None:
        """Ask the others; a link to one comes up once both sides have said that they want it."""
        self._do(Partners(self._people))

    async def stop(self) -> None:
        """End all links, and say so to the other sides; safe to call again."""
        self._do(Partners(frozenset()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._posts:
            await asyncio.wait(self._posts, timeout=FAREWELL_S)
        for post in tuple(self._posts):
            post.cancel()

    def owns(self, link: int) -> bool:
        """Whether a link is, or was, an island's."""
        return FIRST_ISLAND_LINK <= link < FIRST_ISLAND_LINK * 2

    def send(self, frame: SendFrame) -> None:
        """Let a frame cross, or count why it does not."""
        self._do(frame)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        """End the link to an island for a while."""
        self._do(Part(link, max(leave_s, LEAVE_S)))

    def take(self, sender: str, body: bytes) -> None:
        """A bundle came from somebody; that it was this person, is proved."""
        self._do(Came(sender, body))

    def _do(self, event: BridgeEvent) -> None:
        now = self._clock.now().timestamp()
        news: list[LinkNews] = []
        for action in self._engine.handle(event, now):
            match action:
                case Post():
                    self._post(action)
                case WakeAt(at):
                    self._wake(at - now)
                case _:
                    news.append(action)
        for one in news:
            if isinstance(event, SendFrame | Part):
                # Told later: whoever sends is in the middle of something.
                asyncio.get_running_loop().call_soon(self._tell, one)
            else:
                self._tell(one)

    def _post(self, post: Post) -> None:
        task = background(self._carry(post), "island-post")
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _carry(self, post: Post) -> None:
        try:
            ok = await self._carrier.carry(post.partner, post.body)
        except Exception:
            self._do(Posted(post.number, ok=False))  # or it would be waited for, for ever
            raise
        self._do(Posted(post.number, ok))

    def _wake(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = background(self._sleep(seconds), "island-wake")

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(max(0.0, seconds))
        self._timer = None  # what follows may ask for the next one
        self._do(Wake())
