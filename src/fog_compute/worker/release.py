"""Keeps results until the edges of the grid at which they may be shown."""

from __future__ import annotations

import asyncio
from typing import Final

from fog_compute.clock import Clock
from fog_compute.tasks.receipt import Signer
from fog_compute.tasks.result import TaskResult
from fog_compute.worker.attempts import Held
from fog_compute.worker.holdings import Holdings
from fog_compute.worker.threads import beside

__all__ = ["Releases"]


class Releases:
    """Shows each result when its edge comes."""

    def __init__(self, holdings: Holdings, signer: Signer, clock: Clock) -> None:
        """Show what is in ``holdings``, each result with a receipt by ``signer``."""
        self._signer: Final = signer
        self._holdings: Final = holdings
        self._clock: Final = clock
        self._waiting: Final[set[asyncio.Task[None]]] = set()

    async def finish(self, held: Held, result: TaskResult) -> None:
        """Keep a result at once.

        Raises:
            JournalUnusable: it cannot be kept.
        """
        receipt = await beside(len(result.data), self._signer.sign, held.handle, result)
        delay = await self._holdings.finish(held, result.data, receipt)
        release = asyncio.create_task(self._release(held, delay), name="release")
        self._waiting.add(release)
        release.add_done_callback(self._waiting.discard)

    async def _release(self, held: Held, delay: float) -> None:
        await self._clock.sleep(delay)
        self._holdings.release(held)

    def close(self) -> None:
        """Wait no longer; the journal knows the edges."""
        for release in self._waiting:
            release.cancel()
