"""A clock that moves only when told."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

_START: Final = datetime(2000, 1, 1, tzinfo=UTC)


class ManualClock:
    """A `fog_compute.clock.Clock`; `advance` moves it and wakes who slept long enough."""

    def __init__(self, start: datetime = _START) -> None:
        """Begin at ``start``."""
        self._start = start
        self._elapsed = 0.0
        self._boots = 1
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def boot(self) -> str:
        """Return the name of the span that `monotonic` counts."""
        return f"boot-{self._boots}"

    def now(self) -> datetime:
        """Return the time of day."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return self._elapsed

    def suspend(self, seconds: float) -> None:
        """Let time pass in which nobody runs; who slept long enough wakes at the next `advance`."""
        self._elapsed += seconds

    def jump(self, seconds: float) -> None:
        """Move the time of day alone: what happens *between* two runs, never within one."""
        self._start += timedelta(seconds=seconds)

    def reboot(self) -> None:
        """Begin a new span of `monotonic`, between two runs; the time of day goes on."""
        self._start = self.now()
        self._elapsed = 0.0
        self._boots += 1

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has gone that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), done))
        await done

    async def advance(self, seconds: float) -> None:
        """Move on, waking sleepers in their order and letting each run before the next."""
        until = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, done = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not done.done():
                done.set_result(None)
            await asyncio.sleep(0)
        self._elapsed = until
        await asyncio.sleep(0)
