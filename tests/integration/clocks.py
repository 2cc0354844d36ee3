"""A wall clock that jumps when a test says so, for all processes that it is given to."""

from __future__ import annotations

from pathlib import Path


class JumpingClock:
    """The time of day of some processes, so many seconds from the machine's."""

    def __init__(self, library: Path, folder: Path) -> None:
        """Steer the clock of ``library`` by a file in ``folder``."""
        self._file = folder / "offset"
        self._offset = 0
        self._write()
        self.environment = {"LD_PRELOAD": str(library), "FAKE_CLOCK": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Move the clock, at once and for all."""
        self._offset += seconds
        self._write()

    def _write(self) -> None:
        # In one step: who reads meanwhile sees the old time or the new one.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(self._offset), "ascii")
        fresh.replace(self._file)
