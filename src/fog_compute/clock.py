"""Where time comes from: everything that waits or stamps takes a :class:`Clock`.

A machine's wall clock is put right, or wrong, at any moment. So a process looks at it once, when it
starts, and from then on counts the seconds that pass, those of a suspension too: what is compared
inside one process never jumps. What a later process reads of an earlier one may have been stamped
by a clock that was wrong, or that is wrong now; see ``fog_compute.store.redate``.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

__all__ = ["Clock", "SystemClock"]

SLICE_S: Final = 5.0
"""Longest single wait, because the event loop does not count suspensions."""


@runtime_checkable
class Clock(Protocol):
    """A source of time that tests replace by a virtual one."""

    @property
    def boot(self) -> str:
        """Names the span over which :meth:`monotonic` counts on, from process to process.

        Empty where it cannot be told.
        """
        ...

    def now(self) -> datetime:
        """The current time, aware, in UTC; for stamps that are stored.

        It never jumps within one process: it moves exactly as :meth:`monotonic` does.
        """
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, suspensions counted; for measuring and for deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellation leaves nothing behind."""
        ...


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_BOOTED_AT: Final = datetime.now(UTC) - timedelta(seconds=_since_boot())
"""The one look at the wall clock, the same for every clock of the process."""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


_BOOT: Final = _boot()
"""No process outlives its boot, and later there may be no file left to open."""


class SystemClock:
    """The clock of the machine."""

    __slots__ = ()

    @property
    def boot(self) -> str:
        """Return the kernel's name of this boot."""
        return _BOOT

    def now(self) -> datetime:
        """Return the wall clock's time at the start, and what has passed since."""
        return _BOOTED_AT + timedelta(seconds=_since_boot())

    def monotonic(self) -> float:
        """Return the kernel's time since boot, which counts suspensions."""
        return _since_boot()

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop; after a suspension, no longer than one look more."""
        until = _since_boot() + seconds
        left = seconds
        while left > SLICE_S:
            await asyncio.sleep(SLICE_S)
            left = until - _since_boot()
        await asyncio.sleep(max(0.0, left))
