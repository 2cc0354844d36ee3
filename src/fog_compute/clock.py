"""Where time comes from: everything that waits or stamps takes a :class:`Clock`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

__all__ = ["Clock", "SystemClock"]


@runtime_checkable
class Clock(Protocol):
    """A source of time that tests replace by a virtual one."""

    def now(self) -> datetime:
        """The current time, aware, in UTC; for stamps that are stored."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; for measuring and deadlines inside one process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellation leaves nothing behind."""
        ...


class SystemClock:
    """The clock of the machine."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the kernel's monotonic time."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop."""
        await asyncio.sleep(seconds)
