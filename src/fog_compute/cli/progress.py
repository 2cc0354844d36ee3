"""How far many tasks are: one line that moves on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from fog_compute.cli.common import note
from fog_compute.client.maps import Progress
from fog_compute.units import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Drawn
    from rich.progress import TaskID

__all__ = ["Bar"]

LINE_EVERY_S: Final = 5.0


def _line(counts: Progress, done_here: int, seconds: float) -> str:
    """For people: counts, rate and time left, where ``done_here`` were done in ``seconds``."""
    text = f"{counts.done} of {counts.total} done, {counts.running} running, {counts.failed} failed"
    if not done_here or seconds <= 0:
        return text
    rate = done_here / seconds
    left = format_duration((counts.total - counts.done) / rate)
    return f"{text}, {rate:.1f}/s" + (f", {left} left" if counts.done < counts.total else "")


class Bar:
    """Shows counts on standard error."""

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; a quiet one shows nothing where there is no terminal."""
        self._quiet = quiet
        self._clock = clock
        self._began = clock()
        self._first: int | None = None
        self._said_at = self._began
        self._said: Progress | None = None
        self._progress: Drawn | None = None
        self._row: TaskID | None = None

    def __enter__(self) -> Self:
        """Begin to show."""
        if sys.stderr.isatty():
            from rich.console import Console  # slow; not needed in scripts
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Drawn

            self._progress = Drawn(
                BarColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._row = self._progress.add_task("", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show no more."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, counts: Progress) -> None:
        """Show these; elsewhere than on a terminal not more often than every 5 s, and the end."""
        now = self._clock()
        if self._first is None:
            self._first = counts.done  # by an earlier command
        text = _line(counts, counts.done - self._first, now - self._began)
        if self._progress is not None and self._row is not None:
            self._progress.update(
                self._row, description=text, completed=counts.done, total=counts.total
            )
        elif not self._quiet and counts != self._said:
            if counts.done < counts.total and now - self._said_at < LINE_EVERY_S:
                return
            self._said, self._said_at = counts, now
            note(text)
