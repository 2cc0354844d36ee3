"""How far long work is: one line that moves on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from fog_compute.cli.common import note
from fog_compute.units import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Drawn
    from rich.progress import TaskID

    from fog_compute.client.maps import Progress

__all__ = ["Bar", "Counts"]

LINE_EVERY_S: Final = 5.0


class Bar:
    """Shows one piece of work on standard error."""

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; a quiet one shows nothing where there is no terminal."""
        self._quiet: Final = quiet
        self._clock: Final = clock
        self._began: Final = clock()
        self._said_at = self._began
        self._drawn: Drawn | None = None
        self._row: TaskID | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show no more."""
        if self._drawn is not None:
            self._drawn.stop()

    def move(self, text: str, done: int, total: int, *, last: bool = False) -> bool:
        """Show it; elsewhere than on a terminal not more often than every 5 s, and what is last.

        Returns:
            Whether it was shown.
        """
        now = self._clock()
        if sys.stderr.isatty():
            self._draw(text, done, total)
        elif not self._quiet and (last or now - self._said_at >= LINE_EVERY_S):
            self._said_at = now
            note(text)
        else:
            return False
        return True

    def _draw(self, text: str, done: int, total: int) -> None:
        if self._drawn is None:
            from rich.console import Console  # slow; not needed in scripts
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Drawn

            columns = (BarColumn(), TextColumn("{task.description}", markup=False))
            self._drawn = Drawn(*columns, console=Console(stderr=True))
            self._drawn.start()
            self._row = self._drawn.add_task("")
        if self._row is not None:
            self._drawn.update(self._row, description=text, completed=done, total=total)


class Counts(Bar):
    """How far many tasks are."""

    _first: int | None = None
    _said: Progress | None = None

    def show(self, counts: Progress) -> None:
        """So many are done now; what has been shown is not shown again."""
        if self._first is None:
            self._first = counts.done  # by an earlier command
        if counts == self._said:
            return
        text = _line(counts, counts.done - self._first, self._clock() - self._began)
        if self.move(text, counts.done, counts.total, last=counts.done >= counts.total):
            self._said = counts


def _line(counts: Progress, done_here: int, seconds: float) -> str:
    """For people: counts, rate and time left, where ``done_here`` were done in ``seconds``."""
    text = f"{counts.done} of {counts.total} done, {counts.running} running, {counts.failed} failed"
    if not done_here or seconds <= 0:
        return text
    rate = done_here / seconds
    left = format_duration((counts.total - counts.done) / rate)
    return f"{text}, {rate:.1f}/s" + (f", {left} left" if counts.done < counts.total else "")
