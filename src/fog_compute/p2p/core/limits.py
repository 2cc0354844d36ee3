"""How much of something others may do: so much at once, and so much a second."""

from __future__ import annotations

from typing import Final

__all__ = ["Bucket"]


class Bucket:
    """Tokens: a full bucket at first, and so many more a second. It knows no clock.

    Times are seconds; one that goes back fills nothing.
    """

    __slots__ = ("_at", "_burst", "_debt", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float, *, debt: float = 0.0) -> None:
        """Let ``burst`` tokens be taken at once, and be charged into ``debt`` at most."""
        self._per_s: Final = per_s
        self._burst: Final = burst
        self._debt: Final = debt
        self._left = burst
        self._at: float | None = None

    def covers(self, count: float, now: float) -> bool:
        """Whether there are so many tokens."""
        if self._at is None:
            self._at = now
        elif now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
            self._at = now
        return count <= self._left

    def take(self, count: float, now: float) -> bool:
        """Take tokens, if there are so many."""
        if not self.covers(count, now):
            return False
        self._left -= count
        return True

    def charge(self, count: float) -> None:
        """Take tokens in any case; a debt is paid before anything else passes."""
        self._left = max(-self._debt, self._left - count)

    def free_at(self, count: float, now: float) -> float:
        """When there are so many tokens."""
        return now if self.covers(count, now) else now + (count - self._left) / self._per_s
