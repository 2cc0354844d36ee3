"""Virtual time: it starts at a fixed moment, moves with each look and each sleep, and never back.

It stands still at its end, the last moment that fits a signed number of nanoseconds, so that a
guest which reads times as signed numbers, as many do, sees none from before its start.
"""

from __future__ import annotations

from typing import Final

from wasmtime import Caller

from fog_compute.worker.wasi.abi import EINVAL, LOOK_NS, START_NS, store

__all__ = ["REALTIME", "THREAD_CPU", "Clocks"]

REALTIME: Final = 0
THREAD_CPU: Final = 3
END_NS: Final = 2**63 - 1 - START_NS


class Clocks:
    """The four clocks of a guest, which are one: the wall clock alone counts from 1970."""

    def __init__(self) -> None:
        """Stand at zero."""
        self._elapsed_ns = 0

    @property
    def elapsed_ns(self) -> int:
        """Virtual time since the task's start."""
        return self._elapsed_ns

    def begin(self) -> None:
        """Start a task."""
        self._elapsed_ns = 0

    def move_to(self, moment_ns: int) -> None:
        """Let time be this moment, unless it is later already or would be over."""
        self._elapsed_ns = max(self._elapsed_ns, min(moment_ns, END_NS))

    def due(self, clock: int, timeout: int, *, absolute: bool) -> int:
        """Return when a sleep is over; one beyond the end of time is over then."""
        if not absolute:
            moment = self._elapsed_ns + timeout
        else:
            moment = timeout - START_NS if clock == REALTIME else timeout
        return min(moment, END_NS)

    def clock_time_get(self, caller: Caller, clock: int, _precision: int, pointer: int) -> int:
        """Tell the time, and move it by a microsecond."""
        if not REALTIME <= clock <= THREAD_CPU:
            return EINVAL
        self.move_to(self._elapsed_ns + LOOK_NS)
        now = self._elapsed_ns + (START_NS if clock == REALTIME else 0)
        return store(caller, pointer, now.to_bytes(8, "little"))

    def clock_res_get(self, caller: Caller, clock: int, pointer: int) -> int:
        """Tell by how much a look moves the time."""
        if not REALTIME <= clock <= THREAD_CPU:
            return EINVAL
        return store(caller, pointer, LOOK_NS.to_bytes(8, "little"))
