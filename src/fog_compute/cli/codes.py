"""Exit codes of the ``fog`` command, as its help lists them."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130
