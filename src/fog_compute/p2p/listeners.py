"""Who listens to one person's messages: that there are more, and what becomes of those sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from fog_compute.p2p.core.actions import Progress

__all__ = ["Listeners"]

BEHIND: Final = 1000
"""Changes of state that a listener may lag behind; then it misses the oldest."""


class Listeners:
    """All who listen, until the end."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._bells: Final[set[asyncio.Event]] = set()
        self._listeners: Final[set[_Listener]] = set()
        self._over = False

    def ring(self) -> None:
        """There is more in the log."""
        for bell in self._bells:
            bell.set()

    def tell(self, progress: Progress) -> None:
        """A message of ours came to another state."""
        for listener in self._listeners:
            listener.tell(progress)

    def end(self) -> None:
        """Let everybody go who listens, or will."""
        self._over = True
        self.ring()
        for listener in self._listeners:
            listener.end()

    async def grown(self) -> AsyncGenerator[None, None]:
        """Say, at once and then whenever there is more, that the log may have grown."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            while not self._over:
                yield
                await bell.wait()
                bell.clear()
        finally:
            self._bells.discard(bell)

    def progress(self) -> AsyncGenerator[Progress, None]:
        """What becomes of messages of ours from now on; who is slow misses the oldest."""
        listener = _Listener()
        if self._over:
            listener.end()
        self._listeners.add(listener)
        return self._follow(listener)

    async def _follow(self, listener: _Listener) -> AsyncGenerator[Progress, None]:
        try:
            while (told := await listener.next()) is not None:
                yield told
        finally:
            self._listeners.discard(listener)


class _Listener:
    __slots__ = ("_over", "_some", "_told")

    def __init__(self) -> None:
        self._told: Final[deque[Progress]] = deque(maxlen=BEHIND)
        self._some: Final = asyncio.Event()
        self._over = False

    def tell(self, progress: Progress) -> None:
        self._told.append(progress)
        self._some.set()

    def end(self) -> None:
        self._over = True
        self._some.set()

    async def next(self) -> Progress | None:
        while not self._told:
            if self._over:
                return None
            self._some.clear()
            await self._some.wait()
        return self._told.popleft()
