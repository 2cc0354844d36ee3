"""A bound on the bytes of messages that are in handling at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

__all__ = ["ByteBudget"]


class ByteBudget:
    """So many bytes; who wants more than are left waits for its turn."""

    __slots__ = ("_free", "_limit", "_waiting")

    def __init__(self, limit: int) -> None:
        """Give out at most ``limit`` bytes, or one message that is larger by itself."""
        self._limit: Final = limit
        self._free = limit
        self._waiting: Final[deque[tuple[int, asyncio.Future[None]]]] = deque()

    async def take(self, size: int) -> int:
        """Wait for room and return what to give back.  Cancelled: nothing was taken."""
        size = min(size, self._limit)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            raise
        return size

    def give_back(self, size: int) -> None:
        """Return bytes, and let in who waits for them, in order."""
        self._free += size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done() and wanted > self._free:
                return
            self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)
