"""How late the event loop is: what keeps it from its turn, nothing else can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["PAUSE_S", "LoopLag"]

PAUSE_S: Final = 0.25
"""Between two looks."""


class LoopLag:
    """Sleeps again and again, and notes how much longer than it wanted.

    A suspension of the machine is none of the loop's doing: the clock must not count it.
    """

    __slots__ = ("_longest", "_now", "_sleep")

    def __init__(self, sleep: Callable[[float], Awaitable[None]], now: Callable[[], float]) -> None:
        """Look at nothing yet; ``now`` gives seconds, and ``sleep`` waits so many."""
        self._sleep: Final = sleep
        self._now: Final = now
        self._longest = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look as long as this lasts."""
        looking = asyncio.create_task(self.run(), name="loop-lag")
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def run(self) -> None:
        """Look again and again; never ends."""
        while True:
            due = self._now() + PAUSE_S
            await self._sleep(PAUSE_S)
            self._longest = max(self._longest, self._now() - due)

    def take(self) -> float:
        """The longest delay since the last call, seconds."""
        longest, self._longest = self._longest, 0.0
        return longest
