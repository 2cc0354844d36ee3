"""What ends a command from outside: Ctrl-C, SIGTERM and the end of the terminal, all in one way.

A command that is interrupted says which tasks go on, gives the terminal back as it was, and takes
back what it had begun.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Interrupts", "interrupt_when_told_to_end"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAME_S: Final = 0.5
"""How long signals count as one: ``timeout`` sends one to the process and one to its group."""


class Interrupts:
    """Handles signals to end; the next one, if it comes later, interrupts what the first began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None came yet."""
        self._clock: Final = clock
        self._last: float | None = None

    def __call__(self, *_: object) -> None:
        """Interrupt what runs, as Ctrl-C does in Python."""
        now = self._clock()
        if self._last is not None and now - self._last < SAME_S:
            return
        self._last = now
        raise KeyboardInterrupt


def interrupt_when_told_to_end() -> None:
    """Let signals to end interrupt what runs; those that are ignored, as by ``nohup``, stay so."""
    handler = Interrupts()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
