"""How much of a message has gone, while it goes to one person or to several."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fog_compute.cli.progress import Bar
from fog_compute.cli.transfer import Meter
from fog_compute.client.answers import Stage
from fog_compute.client.people import Moved

__all__ = ["Moving"]


class Moving(Bar):
    """One message, on its way to all its recipients together."""

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; a quiet one shows nothing where there is no terminal."""
        super().__init__(quiet=quiet, clock=clock)
        self._meter: Final = Meter()
        self._gone: Final[dict[str, Moved]] = {}

    def show(self, moved: Moved) -> None:
        """More of it has gone to one recipient."""
        self._gone[moved["receiver"]] = moved
        done = sum(one["done"] for one in self._gone.values())
        total = sum(one["total"] for one in self._gone.values())
        text = self._meter.line(Stage(doing="sending", done=done, total=total), self._clock())
        self.move(text, done, total)
