"""How many attempts one worker may hold for us at once, learned from what it did.

What a worker claims only bounds this from above, and only as long as it is slow. A new worker gets
a few places. Each task that it brings to an end while most of them are taken earns it another, so
that they double from round to round; ``busy`` and a lost attempt halve them, and from there they
grow by one a round. Where tasks are long, a worker that is full and answers earns one place in each
``PATIENCE``. Claiming slots earns nothing.

A slot must not wait for a round trip of the network, so a worker that is quick may hold what it
finishes in ``AHEAD``, whatever the number of its slots; more would only wait there while another
could run it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

__all__ = ["AHEAD", "FIRST_PLACES", "MOST_PLACES", "PATIENCE", "QUEUE_PER_SLOT", "Capacity"]

FIRST_PLACES: Final = 4
"""Attempts that a worker of which nothing is known may hold."""

MOST_PLACES: Final = 256
"""Attempts that any worker may hold."""

QUEUE_PER_SLOT: Final = 2
"""Attempts that a slow worker may hold per slot: one runs while the next is on its way."""

AHEAD: Final = timedelta(seconds=2)
"""How far ahead of its slots the queue of a quick worker is filled."""

PATIENCE: Final = timedelta(seconds=10)
"""How long a worker that is full must hold and answer to earn a place without finishing."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is learned; every change makes a new one.

    Attributes:
        earned: places that it earned, in fractions while they grow slowly.
        knee: from here on they grow by one a round.
        recent: tasks that it finished lately, each counting less as time passes.
        counted_at: when ``recent`` was so.
        grown_at: when it last earned a place, had trouble, or answered without being full.
    """

    earned: float = FIRST_PLACES
    knee: float = MOST_PLACES
    recent: float = 0.0
    counted_at: datetime | None = None
    grown_at: datetime | None = None

    def places(self, slots: int, now: datetime) -> int:
        """Attempts that a worker with so many slots, by its own word, may hold; at least one."""
        useful = max(QUEUE_PER_SLOT * slots, round(self._recent(now)))
        return max(1, min(int(self.earned), useful))

    def after_finish(self, held: int, now: datetime) -> Capacity:
        """It brought a task to its end, of ``held`` that it held until then."""
        earned = self.earned
        if 2 * held >= earned:  # places that stay empty show nothing
            earned += 1.0 if earned < self.knee else 1.0 / earned
        return replace(
            self,
            earned=min(earned, MOST_PLACES),
            recent=self._recent(now) + 1.0,
            counted_at=now,
            grown_at=now,
        )

    def after_answer(self, held: int, now: datetime) -> Capacity:
        """It answered while it held so many."""
        if held < int(self.earned) or self.grown_at is None:
            return replace(self, grown_at=now)
        if now - self.grown_at < PATIENCE:
            return self
        return replace(self, earned=min(self.earned + 1.0, MOST_PLACES), grown_at=now)

    def after_trouble(self, now: datetime) -> Capacity:
        """It had no room, or lost a task."""
        half = max(1.0, self.earned / 2)
        return replace(self, earned=half, knee=half, grown_at=now)

    def _recent(self, now: datetime) -> float:
        if self.counted_at is None:
            return 0.0
        return self.recent * math.exp(-max(timedelta(), now - self.counted_at) / AHEAD)
