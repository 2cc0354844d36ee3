"""How long to leave alone what has just failed: longer each time, up to a bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow with failures. It waits for nobody: whoever does has the clock.

    Attributes:
        first: seconds after the first failure.
        most: seconds that no pause exceeds.
        factor: by what a pause is longer than the one before, at least 1.
        jitter: which part of a pause chance may take away, from 0 to 1; some, where many that
            failed together would come back together.
    """

    first: float
    most: float
    factor: float = 2.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would shrink, or wait for ever."""
        if not (0 < self.first < math.inf and self.first <= self.most):
            raise ValueError(f"pauses from {self.first} to {self.most} s do not grow")
        if not (1 <= self.factor < math.inf and 0 <= self.jitter <= 1):
            raise ValueError(f"no back-off has factor {self.factor} and jitter {self.jitter}")

    def after(self, failures: int, random: Callable[[], float] | None = None) -> float:
        """Return the seconds of the pause when so many failures went before the last one.

        Args:
            failures: 0 for the first pause.
            random: gives a number from 0 to 1, for the jitter; without it there is none.
        """
        try:
            pause = self.first * self.factor**failures
        except OverflowError:
            pause = self.most
        pause = min(pause, self.most)
        return pause if random is None else pause * (1 - self.jitter * random())

    def delay(self, failures: int) -> timedelta:
        """Return the pause of :meth:`after` for dates, without jitter."""
        return timedelta(seconds=self.after(failures))
