"""How long a command waits, whatever it waits for."""

from __future__ import annotations

import signal
from typing import Final, Self

__all__ = ["OutOfTime", "Patience"]

LEAST_S: Final = 1e-3  # none at all would mean for ever
MOST_S: Final = 10 * 365 * 86400.0


class OutOfTime(BaseException):
    """The time that a command was given is over; no handler of errors on the way takes it."""


class Patience:
    """Raises `OutOfTime` in the block once the time is over.

    An alarm, because each of the many waits has its own idea of time: for a pipe to be opened, for
    the next bytes of an answer, for a backend to come back.

    Attributes:
        seconds: how long, or None without end.
    """

    def __init__(self, seconds: float | None) -> None:
        """Nothing is counted yet."""
        self.seconds: Final = seconds

    def __enter__(self) -> Self:
        """Count from now; in the main thread."""
        if self.seconds is not None:
            signal.signal(signal.SIGALRM, _raise)
            signal.setitimer(signal.ITIMER_REAL, min(max(self.seconds, LEAST_S), MOST_S))
        return self

    def __exit__(self, *exc: object) -> None:
        """Count no more."""
        self.end()

    def end(self) -> None:
        """Count no more: what was waited for is there, and is only to be printed."""
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _raise(*_: object) -> None:
    raise OutOfTime
