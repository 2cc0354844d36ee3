"""How far bytes are that are sent or received, for people."""

from __future__ import annotations

from collections import deque
from typing import Final

from fog_compute.client.answers import Stage
from fog_compute.units import format_bytes, format_duration

__all__ = ["Meter"]

WINDOW_S: Final = 20.0
"""The rate is that of so many seconds past: a path that stalls is seen soon."""


class Meter:
    """Counts what moved since a stage began."""

    def __init__(self) -> None:
        """Nothing has moved."""
        self._doing = ""
        self._seen: deque[tuple[float, int]] = deque()

    def line(self, stage: Stage, now: float) -> str:
        """Say what is being done and, of what moves, bytes, rate and time left."""
        done, total = stage["done"], stage["total"]
        if stage["doing"] != self._doing:
            self._doing = stage["doing"]
            self._seen.clear()
        if not total:
            return self._doing
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        text = f"{self._doing} {format_bytes(done)} of {format_bytes(total)}"
        since, before = self._seen[0]
        seconds = now - since
        if seconds <= 0 or done <= before:
            return text
        rate = (done - before) / seconds
        left = format_duration(max(0, total - done) / rate)
        return f"{text}, {format_bytes(round(rate))}/s, {left} left"
