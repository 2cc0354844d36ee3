"""Streams of others: what came, what is missing, and what may be shown in which order.

A stream is written down as the next place and the ranges that were passed over, so one record
remembers any number of messages. What came too early is held back until what is before it comes, or
was waited for long enough; what comes after that is shown late, once.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

__all__ = ["InStream", "Place"]

MAX_HELD: Final = 4096
"""Messages of one stream that wait; above that, the first gap is waited for no longer."""

MAX_RANGES: Final = 64
"""Ranges of one stream that were passed over; above that, what the first of them lacks is dropped
when it comes."""

END: Final = 2**32
"""No place is so high."""


class Place(enum.Enum):
    """What the place of a message that came says of it."""

    NEXT = "next"  # it is shown now
    EARLY = "early"  # it waits for what is before it
    LATE = "late"  # what follows it was shown already; it is shown now
    SEEN = "seen"  # it came before, or will never be shown


class InStream:
    """One stream of somebody else. It knows no clock.

    Attributes:
        next: what comes next.
        missing: see `InStreamRecord`.
        until: when no message of it can come any more.
        gap_since: since when what comes next is waited for; None while nothing waits behind it.
    """

    __slots__ = ("_held", "gap_since", "missing", "next", "until")

    def __init__(
        self,
        next: int = 0,  # noqa: A002 - the word of the record
        missing: Iterable[tuple[int, int]] = (),
        until: float = 0.0,
    ) -> None:
        """Take a stream up."""
        self.next = next
        self.missing = list(missing)
        self.until = until
        self.gap_since: float | None = None
        self._held: dict[int, float] = {}  # and when they came

    @property
    def waiting(self) -> int:
        """How many messages are held back."""
        return len(self._held)

    def hold(self, sequence: int, at: float) -> None:
        """Take up again a message that was held back, and since when."""
        self._held[sequence] = at
        self.gap_since = at if self.gap_since is None else min(self.gap_since, at)

    def has(self, sequence: int) -> bool:
        """Whether a message came before, or will never be shown."""
        if not 0 <= sequence < END or sequence in self._held:
            return True
        return sequence < self.next and not any(
            first <= sequence < end for first, end in self.missing
        )

    def arrive(self, sequence: int, now: float) -> Place:
        """Say what a message is; after NEXT and EARLY, `release` tells what can be shown."""
        if self.has(sequence):
            return Place.SEEN
        if sequence < self.next:
            self._take_out(sequence)
            return Place.LATE
        if sequence == self.next:
            self.next += 1
            return Place.NEXT  # what waits behind it is for `release`
        self.hold(sequence, now)
        return Place.EARLY

    def release(self, now: float, patience_s: float) -> list[int]:
        """The messages that wait for nothing any more, in their order; they are taken out.

        Args:
            now: seconds.
            patience_s: how long a gap is waited for.
        """
        out: list[int] = []
        while self._held:
            if self.next not in self._held:
                since = now if self.gap_since is None else self.gap_since
                if now < since + patience_s and len(self._held) <= MAX_HELD:
                    break
                self._pass_over(min(self._held))
            while self.next in self._held:
                del self._held[self.next]
                out.append(self.next)
                self.next += 1
            self.gap_since = min(self._held.values(), default=None)
        return out

    def _pass_over(self, following: int) -> None:
        self.missing.append((self.next, following))
        del self.missing[:-MAX_RANGES]
        self.next = following

    def _take_out(self, sequence: int) -> None:
        """Take a place out of what was passed over."""
        for number, (first, end) in enumerate(self.missing):
            if first <= sequence < end:
                parts = [(first, sequence), (sequence + 1, end)]
                whole = [part for part in parts if part[0] < part[1]]
                self.missing[number : number + 1] = whole
                # A hole in the middle makes one range more; which of them goes, age decides.
                del self.missing[:-MAX_RANGES]
                return
