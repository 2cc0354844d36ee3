"""What a worker's slots did since it was started, in numbers that name no task."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

from fog_compute.tasks.model import Fault, TaskKind

__all__ = ["KILL_REASONS", "RUN_BOUNDS_S", "RunTimes", "Tally"]

KILL_REASONS: Final = (
    *(
        fault.value
        for fault in (
            Fault.TIMEOUT,
            Fault.OUT_OF_MEMORY,
            Fault.OUTPUT_LIMIT,
            Fault.SCRATCH_LIMIT,
        )
    ),
    "cancelled",  # the attempt was taken back, or the worker stops
    "unfinished",  # what the task needs is not here
    "not_compiled",  # nothing came of compiling a module early
    "lost",  # it died by itself
    "file_size",  # the machine lets no file grow as large as a task may have it
    "folder",  # what a task left could not be removed
)
"""Why a runner is ended before another one takes its place."""

RUN_BOUNDS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000)
"""Upper ends of the classes of run times, in seconds."""


class RunTimes:
    """How long tasks ran, in classes.

    Attributes:
        total_s: of all, together.
    """

    __slots__ = ("_counts", "total_s")

    def __init__(self) -> None:
        self.total_s = 0.0
        self._counts: Final = [0] * (len(RUN_BOUNDS_S) + 1)

    def add(self, seconds: float) -> None:
        """Count one that ran for so long."""
        self.total_s += seconds
        self._counts[bisect_left(RUN_BOUNDS_S, seconds)] += 1

    def up_to(self) -> list[int]:
        """How many ran no longer than each of `RUN_BOUNDS_S`, and how many in all."""
        return list(accumulate(self._counts))


class Tally:
    """Counts of one worker.

    Attributes:
        kills: runners that were ended, by each of `KILL_REASONS`.
        runs: how long tasks of each kind ran, faults included.
    """

    __slots__ = ("kills", "runs")

    def __init__(self) -> None:
        self.kills: Final = dict.fromkeys(KILL_REASONS, 0)
        self.runs: Final = {kind.value: RunTimes() for kind in TaskKind}

    def killed(self, reason: str) -> None:
        """Count a runner that was ended; see `KILL_REASONS`."""
        self.kills[reason] += 1

    def ran(self, kind: str, wall_ms: int) -> None:
        """Count a task that ran for so many milliseconds."""
        self.runs[kind].add(wall_ms / 1000)
