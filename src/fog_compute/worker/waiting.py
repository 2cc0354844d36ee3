"""Answers that are held back for news, a bounded number of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Final

from fog_compute.clock import Clock
from fog_compute.worker.attempts import Held
from fog_compute.worker.shares import Owner, furthest_above

__all__ = ["WaitingRoom"]


class WaitingRoom:
    """Who waits for news. In a full one, who has most waiting there is answered at once."""

    __slots__ = ("_clock", "_limit", "_numbers", "_waiting")

    def __init__(self, limit: int, clock: Clock) -> None:
        """Hold at most ``limit`` answers."""
        self._limit: Final = limit
        self._clock: Final = clock
        self._numbers: Final = itertools.count()
        self._waiting: Final[dict[int, tuple[Owner, asyncio.Future[None]]]] = {}  # longest first

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def wait(self, owner: Owner, attempts: Sequence[Held], seconds: float) -> None:
        """Return at the first news of ``attempts``, after so long, or to make room for others."""
        if seconds <= 0 or not attempts or any(held.told for held in attempts):
            return
        if len(self._waiting) >= self._limit and self._make_room(owner):
            return
        number = next(self._numbers)
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (owner, news)
        for held in attempts:
            held.listeners.add(news)
        over = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait((news, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            for held in attempts:
                held.listeners.discard(news)
            self._waiting.pop(number, None)
            await asyncio.gather(over, return_exceptions=True)

    def _make_room(self, newcomer: Owner) -> bool:
        """Answer somebody; return whether that is the newcomer itself."""
        counts = Counter(owner for owner, _ in self._waiting.values())
        most = furthest_above(counts, newcomer, 1)
        if most == newcomer and not counts[newcomer]:
            return True
        number = next(n for n, (owner, _) in self._waiting.items() if owner == most)
        _, news = self._waiting.pop(number)
        if not news.done():
            news.set_result(None)
        return False
