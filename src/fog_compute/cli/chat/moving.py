"""How much of a file has gone: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from fog_compute.cli.common import note
from fog_compute.cli.transfer import Meter
from fog_compute.client.answers import Stage
from fog_compute.client.people import Moved

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Moving"]

LINE_EVERY_S: Final = 5.0


class Moving:
    """Shows on standard error how much of one message has gone, to all its recipients together."""

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; a quiet one shows nothing where there is no terminal."""
        self._quiet: Final = quiet
        self._clock: Final = clock
        self._meter: Final = Meter()
        self._gone: Final[dict[str, Moved]] = {}
        self._said_at = clock()
        self._drawn: Progress | None = None
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

    def show(self, moved: Moved) -> None:
        """More of it has gone to one recipient."""
        self._gone[moved["receiver"]] = moved
        done = sum(one["done"] for one in self._gone.values())
        total = sum(one["total"] for one in self._gone.values())
        now = self._clock()
        text = self._meter.line(Stage(doing="sending", done=done, total=total), now)
        if sys.stderr.isatty():
            self._draw(text, done, total)
        elif not self._quiet and now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            note(text)

    def _draw(self, text: str, done: int, total: int) -> None:
        if self._drawn is None:
            from rich.console import Console  # slow; not needed in scripts
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(), TextColumn("{task.description}", markup=False))
            self._drawn = Progress(*columns, console=Console(stderr=True))
            self._drawn.start()
            self._row = self._drawn.add_task("")
        if self._row is not None:
            self._drawn.update(self._row, description=text, completed=done, total=total)
