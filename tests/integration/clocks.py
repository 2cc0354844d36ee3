"""A wall clock that jumps when a test says so, for all processes that it is given to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parents[1] / "shims" / "wallclock.c"
COMPILE_S: Final = 60


def build_shim(folder: Path) -> Path | None:
    """Build the library that moves the wall clock of who preloads it; None without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "wallclock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True, timeout=COMPILE_S
    )
    return library


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
